import subprocess
import sys
import time

ROUNDS = 15
MOST = 3
"""The help may take so many times as long as a Python that only imports click."""


def seconds(*arguments):
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.perf_counter() - begin


def test_the_help_is_there_soon_after_python_and_click_are(benchmark):
    bare, helped = [], []

    def one_round():
        # In turn within one round: both meet the same neighbours. The best round is the one that was disturbed least.
        bare.append(seconds("-c", "import click"))
        helped.append(seconds("-m", "harness.cli", "--help"))

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=1)
    ratio = min(helped) / min(bare)
    benchmark.extra_info["click_s"], benchmark.extra_info["help_s"] = round(min(bare), 4), round(min(helped), 4)
    assert ratio <= MOST, f"{min(helped) * 1e3:.0f} ms for the help, {min(bare) * 1e3:.0f} ms for click alone"
