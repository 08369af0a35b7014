"""The small shop that tests and chaos use: a few series, and faults that are plain to see."""

from watchkeep.shop.blueprint import SMALL
from watchkeep.shop.kinds import shipped
from watchkeep.shop.model import Shop

PLAIN = ("errors", "saturation", "traffic-drop")


def small_shop(seed: int, days: float = 0.5) -> Shop:
    """Make a shop of which a test can send half a day in seconds."""
    kinds = shipped()
    return Shop(seed, days, blueprint=SMALL, kinds={name: kinds[name] for name in PLAIN})
