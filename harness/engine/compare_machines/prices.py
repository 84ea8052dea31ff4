"""What the buyer says, on the command line and in hardware.yaml: prices an hour, the price of energy, how busy machines will be, loads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.core.errors import BadInput, Problem
from harness.core.purchase import Price
from harness.core.units import NUMBER, Notation, Unit, parse_quantity
from harness.engine.explain import explain
from harness.engine.read_scenario import HardwareFile
from harness.engine.read_yaml import read_yaml

_PRICE = re.compile(rf"([A-Za-z0-9][\w-]*)\s*=\s*({NUMBER})\s*(?:([A-Za-z]{{3}})\s*(?:/\s*h)?)?")
_ENERGY = re.compile(rf"({NUMBER})\s*([A-Za-z]{{3}})\s*/\s*kWh")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_USUAL = "USD"


@dataclass(frozen=True, slots=True)
class Prices:
    """Given on the command line by machine or target (``given``), and by target in a hardware.yaml (``listed``)."""

    given: Mapping[str, tuple[float, str | None]]
    listed: Mapping[str, Price]

    def check(self, machines: Mapping[str, str]) -> None:
        """``machines`` are targets by the machine's name. Raises BadInput for a price of what is not there, or of what several could be."""
        known = {name: [name] for name in machines}
        for machine, target in machines.items():
            if target not in machines:
                known.setdefault(target, []).append(machine)
        for name in self.given:
            if not known.get(name):
                near = difflib.get_close_matches(name, machines, 1)
                hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(machines)}"
                raise BadInput(Problem(f"--price: no run is of a machine '{name}'", hint=hint))
            if len(known[name]) > 1:
                raise BadInput(Problem(f"--price: '{name}' is {' and '.join(known[name])}", hint="give each its own price"))

    def of(self, machine: str, target: str, own: Price | None, currency: str | None) -> Price | None:
        """``--price`` first, then ``--hardware``, then what the run was measured with; None where nobody told."""
        for name in (machine, target):
            if name in self.given:
                per_hour, told = self.given[name]
                return Price(per_hour, told or currency or _USUAL, "--price")
        return self.listed.get(machine) or self.listed.get(target) or own


def read_prices(given: Sequence[str], hardware: Path | None) -> Prices:
    """``NAME=1.20``, ``NAME=1.20 EUR``, and the targets of a hardware.yaml. Raises BadInput for what is neither."""
    found: dict[str, tuple[float, str | None]] = {}
    for text in given:
        match = _PRICE.fullmatch(text.strip())
        if match is None:
            raise BadInput(Problem(f"--price: '{text}' is not a price an hour", hint="write it as 'NAME=1.20' or 'NAME=1.20 EUR'"))
        if match[1] in found:
            raise BadInput(Problem(f"--price: '{match[1]}' has two prices", hint="give each machine one"))
        found[match[1]] = (float(match[2]), match[3].upper() if match[3] else None)
    return Prices(found, {} if hardware is None else _listed(hardware))


def _listed(path: Path) -> dict[str, Price]:
    document = read_yaml(path)
    try:
        file = HardwareFile.model_validate(document.value)
    except ValidationError as error:
        raise BadInput(*explain(error, document, HardwareFile, path=path)) from error
    targets = file.targets.items()
    return {name: Price(one.price_per_hour, one.currency, str(path)) for name, one in targets if one.price_per_hour is not None}


def one_currency(prices: Mapping[str, Price], energy: tuple[float, str] | None) -> str | None:
    """The currency of all prices; None where there are none. Raises BadInput where there are two: nothing is converted here."""
    told = {name: price.currency for name, price in prices.items()}
    if energy is not None:
        told["--energy-price"] = energy[1]
    if len(set(told.values())) > 1:
        listed = ", ".join(f"{name} in {currency}" for name, currency in told.items())
        raise BadInput(Problem(f"prices in several currencies: {listed}", hint="give them in one: --price NAME='1.20 EUR'"))
    return next(iter(told.values()), None)


def energy_price(text: str | None) -> tuple[float, str] | None:
    """``0.30 USD/kWh``: the price and its currency."""
    if text is None:
        return None
    match = _ENERGY.fullmatch(text.strip())
    if match is None:
        raise BadInput(Problem(f"--energy-price: '{text}' is not a price of energy", hint="write it as '0.30 USD/kWh'"))
    return float(match[1]), match[2].upper()


def share(text: str, option: str, example: str, *, least: float = 0.0, most: float = 1.0) -> float:
    """``60 %`` as 0.6. Raises BadInput where it is no share in ``least`` (not itself) to ``most``."""
    try:
        quantity = parse_quantity(text)
        if quantity.unit is not Unit.FRACTION or quantity.notation is not Notation.PERCENT or not least < quantity.value <= most:
            raise ValueError(f"{text!r} is not a share above {least * 100:g} % and up to {most * 100:g} %")
    except ValueError as error:
        raise BadInput(Problem(f"{option}: {error}", hint=f"write it as '{example}'")) from error
    return quantity.value


def read_loads(texts: Sequence[str]) -> tuple[float, ...]:
    """``1,000 /s`` as inferences a second, the smallest first. Raises BadInput for what is no rate above zero."""
    found = []
    for text in texts:
        try:
            quantity = parse_quantity(_THOUSANDS.sub("", text))
            if quantity.unit is not Unit.PER_SECOND or quantity.value <= 0:
                raise ValueError(f"{text!r} is not a rate above zero")
        except ValueError as error:
            raise BadInput(Problem(f"--load: {error}", hint="write it as '1,000 /s'")) from error
        found.append(quantity.value)
    return tuple(sorted(set(found)))
