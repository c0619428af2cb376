"""Runs the loops of benches/raw/run in turn and compares them: ROUNDS C-PROGRAM BINDING."""

import os
import statistics
import subprocess
import sys

# Number of messages, bytes of each, messages in flight.
LOADS = [(60_000, 100, 256), (60_000, 1_000, 256), (20_000, 8_000, 64)]


def rate(command, load):
    run = subprocess.run(command[:1] + [str(number) for number in load] + command[1:],
                         check=True, capture_output=True, text=True)
    return float(run.stdout)


def main():
    rounds, in_c, binding = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    ways = {"C, dispatching thread": [in_c, "thread"], "binding": [binding],
            "C, one thread": [in_c]}
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {rounds} rounds")
    for load in LOADS:
        rates = {way: [] for way in ways}
        for turn in range(rounds):
            # In a different order each round, so that no program always follows the same one.
            order = list(ways)[turn % 3:] + list(ways)[:turn % 3]
            for way in order:
                rates[way].append(rate(ways[way], load))
        print(f"{load[1]} bytes, {load[2]} in flight:")
        for way, found in rates.items():
            line = f"  {way:22} {statistics.median(found):9.0f} messages/s"
            if way != "binding":
                ratios = sorted(mine / theirs for mine, theirs in zip(rates["binding"], found))
                line += (f"; binding to it {statistics.median(ratios):.2f}"
                         f" ({ratios[0]:.2f} to {ratios[-1]:.2f})")
            print(line, flush=True)


main()
