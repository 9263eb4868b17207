"""Search: candidates, accuracy sources, results. (Not `search`: that name is the function `nasvit_edge.search`.)"""
