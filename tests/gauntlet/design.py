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


def everything() -> list[Command]:
    return [DEFAULT, *(Command(*parts) for parts in product(BUDGETS, (*REPAIRS, ""), ALIGNS))]


def covering(number: int) -> list[Command]:
    """For the skeleton of that number: the plain command, and each budget once. Repairs and alignments take turns, so that a
    skeleton meets all of them, and six skeletons in a row all triples."""
    commands = [DEFAULT]
    for at, budget in enumerate(BUDGETS):
        repair = REPAIRS[(at + number) % len(REPAIRS)]
        alignment = ALIGNS[(at // len(REPAIRS) + at + number // len(REPAIRS)) % len(ALIGNS)]
        commands.append(Command(budget, repair, alignment))
    return commands
