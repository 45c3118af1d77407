"""Draws docs/scale.svg from what tests/sim:scale prints: plot_scale.py < scale.csv > scale.svg"""

import csv
import math
import sys

LINES = [  # column, name, colour
    ("stored_B", "whole table, stored (B)", "#1f5fa8"),
    ("join_B", "change of one join, as it travels (B)", "#2e8b57"),
    ("join_moved", "copies that one join moves", "#b8860b"),
    ("join_settled_ms", "until a join has settled (ms)", "#a83232"),
]
WIDTH, HEIGHT, LEFT, TOP, PLOT_W, PLOT_H = 720, 420, 60, 20, 360, 350

rows = list(csv.DictReader(sys.stdin))
xs = [math.log10(float(row["nodes"])) for row in rows]
x_from, x_to, y_from, y_to = min(xs), max(xs), 1, 6.5


def x_of(log):
    return LEFT + PLOT_W * (log - x_from) / (x_to - x_from)


def y_of(log):
    return TOP + PLOT_H * (1 - (log - y_from) / (y_to - y_from))


out = [
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
    'font-family="sans-serif" font-size="12">',
    f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
]
for log in range(math.ceil(y_from), math.floor(y_to) + 1):
    out.append(f'<line x1="{LEFT}" x2="{LEFT + PLOT_W}" y1="{y_of(log):.1f}" y2="{y_of(log):.1f}" stroke="#ddd"/>')
    out.append(f'<text x="{LEFT - 6}" y="{y_of(log) + 4:.1f}" text-anchor="end">{10**log:,}</text>')
for log in range(math.ceil(x_from), math.floor(x_to) + 1):
    out.append(f'<text x="{x_of(log):.1f}" y="{TOP + PLOT_H + 18}" text-anchor="middle">{10**log:,}</text>')
out.append(f'<text x="{LEFT + PLOT_W / 2}" y="{TOP + PLOT_H + 36}" text-anchor="middle">nodes</text>')
for column, name, colour in LINES:
    ys = [math.log10(max(float(row[column]), 1)) for row in rows]
    points = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in zip(xs, ys))
    out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    out.append(f'<text x="{LEFT + PLOT_W + 8}" y="{y_of(ys[-1]) + 4:.1f}" fill="{colour}">{name}</text>')
out.append("</svg>")
print("\n".join(out))
