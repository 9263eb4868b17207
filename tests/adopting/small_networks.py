"""Networks of a user's own, as functions in a module of theirs."""

MODULE = """
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.stem(x).mean((2, 3)))


class Pair(Small):
    def forward(self, x):
        return super().forward(x), x


def small():
    return Small()


def pair():
    return Pair()


def number():
    return 7
"""


def written(folder, name):
    """The module in a folder, under a name that no other test has imported."""
    (folder / f"{name}.py").write_text(MODULE)
    return name
