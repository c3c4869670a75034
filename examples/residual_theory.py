"""The linear problem behind ResMem's theory: `python examples/residual_theory.py theory.png`.

A base that may only use half of what it would need (L = 0.5) stops at a risk of (1 - L)^2, however
many rows there are. The nearest residual takes the rest away: (1 - L)^2 times the risk of 1-NN.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from recollect.evaluation.linear_toy import toy_risks
from recollect.evaluation.reproduce.residual_memory_plots import plot_theory


def main() -> None:
    """Print the risks, and draw them if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, nargs="?")
    parser.add_argument("--dim", type=int, default=3)
    parser.add_argument("--longest", type=float, default=0.5)
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 100, 1000])
    options = parser.parse_args()
    lines = []
    print("   rows    base  ResMem    1-NN  ResMem / 1-NN")
    for rows in options.rows:
        risks = toy_risks(options.dim, options.longest, rows)
        lines.append({"d": options.dim, "L": options.longest, **asdict(risks)})
        ratio = risks.resmem / risks.nearest
        print(f"{rows:7} {risks.base:7.4f} {risks.resmem:7.4f} {risks.nearest:7.4f} {ratio:14.3f}")
    if options.picture:
        plot_theory(lines).savefig(options.picture)


if __name__ == "__main__":
    main()
