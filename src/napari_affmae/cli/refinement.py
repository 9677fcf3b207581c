"""Options that refine a segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ..config import Refinement

_GROUP = Group("Refinement")
_AT_LEAST_0 = Number(gte=0)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RefinementOptions:
    """What is done to every segmentation before it is written; by default nothing."""

    specks: Annotated[int, Parameter(help="Remove objects of fewer pixels.", group=_GROUP, validator=_AT_LEAST_0)] = 0
    holes: Annotated[int, Parameter(help="Fill holes of at most so many pixels.", group=_GROUP, validator=_AT_LEAST_0)] = 0
    instances: Annotated[
        bool, Parameter(negative="", help="Number and measure objects; makes instances.csv.", group=_GROUP)
    ] = False
    split: Annotated[
        float,
        Parameter(
            help="Tell touching objects apart where the neck is so many pixels deep; implies --instances.",
            group=_GROUP,
            validator=_AT_LEAST_0,
        ),
    ] = 0.0
    background: Annotated[
        str | None,
        Parameter(help='Class that is no object. [default: the one called "background", or the first]', group=_GROUP),
    ] = None

    def settings(self) -> Refinement:
        """Return the settings that the options stand for."""
        return Refinement(
            specks=self.specks,
            holes=self.holes,
            instances=self.instances or self.split > 0,
            split=self.split,
            background=self.background,
        )
