"""QR codes as text."""

from __future__ import annotations

from nasvit_edge.errors import require

_QUIET = 2  # modules of margin: what cameras need on a screen
_BLOCKS = {(True, True): " ", (False, True): "▀", (True, False): "▄", (False, False): "█"}


def qr_text(content: str) -> str:
    """A QR code of half blocks, two modules a character: light on the dark ground of a terminal.

    Raises:
        MissingExtraError: `segno` is not installed.
    """
    require("segno", "devices")
    import segno

    code = segno.make(content, error="l", micro=False)
    rows = [[bool(module) for module in row] for row in code.matrix_iter(border=_QUIET)]
    rows += [[True] * len(rows[0])] * (len(rows) % 2)  # nothing is drawn there
    return "\n".join(
        "".join(_BLOCKS[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    )
