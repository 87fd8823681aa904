"""Which commands each skeleton meets: all of them, or few that cover all pairs of options over the skeletons."""

from dataclasses import dataclass
from itertools import product

BUDGETS = ("--macs 0.7", "--macs 0.4", "--params 0.6", "--mi 0.95", "--ratio 0.3")
REPAIRS = ("none", "once", "sequential")
ALIGNS = ("", "--align 1")


@dataclass(frozen=True)
class Command:
    """A budget, a repair and an alignment; an empty one is the default."""

    budget: str = ""
    repair: str = ""
    alignment: str = ""

    @property
    def options(self) -> list[str]:
        repair = ["--repair", self.repair] if self.repair else []
        return [*self.budget.split(), *repair, *self.alignment.split()]

    @property
    def name(self) -> str:
        return "".join(self.options).replace("--", "-").strip("-") or "default"

    @property
    def kind(self) -> str:
        return self.budget.split()[0].strip("-") if self.budget else ""

    @property
    def share(self) -> float | None:
        return float(self.budget.split()[1]) if self.budget else None

    @property
    def align(self) -> int:
        return 1 if self.aligns_to_one else 8

    @property
    def aligns_to_one(self) -> bool:
        return self.alignment == "--align 1"


DEFAULT = Command()
# Removes enough of every skeleton from which anything can leave, for the checks that need a cut.
CERTAIN = Command("--macs 0.7", "none", "--align 1")


def everything() -> list[Command]:
    return [DEFAULT, *(Command(*parts) for parts in product(BUDGETS, (*REPAIRS, ""), ALIGNS))]


def covering(number: int) -> list[Command]:
    """For the skeleton of that number: the plain command, one without repair, and for odd numbers one with. Budgets,
    repairs and alignments take turns, so that forty skeletons in a row meet all triples."""
    half = number // 2
    commands = [DEFAULT, Command(BUDGETS[number % 5], "none", ALIGNS[number // 5 % 2])]
    if not compares(number):
        commands.append(Command(BUDGETS[half % 5], REPAIRS[1 + half // 5 % 2], ALIGNS[half // 10 % 2]))
    return commands


def compares(number: int) -> bool:
    """Whether the skeleton of that number meets the repairs by a plan, in place of one by a budget."""
    return number % 2 == 0
