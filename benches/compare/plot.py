"""One picture: CPU time per call of each server, as a ratio to the baseline."""

from html import escape

from report import ratio, summarise
from tables import BASELINE

LEFT, WIDTH, RIGHT = 150, 560, 60
BAR, GAP, GROUP = 11, 3, 14
# Ratios beyond this are cut off; the number beside the bar is right all the same.
MOST = 1.6
# Dark enough for white, light enough for black.
COLOURS = ["#0f9d76", "#0b7285", "#d9730d", "#b8860b", "#7c6fd6", "#a05fc4", "#c2497a", "#5b7fa6",
           "#4f97c9", "#8a8a8a", "#2f9e44", "#c92a2a", "#6b705c", "#9c6644"]
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 10px }
.axis { stroke: #8b949e; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
"""


def svg(record):
    summary = summarise(record)
    servers = [server["name"] for server in record["servers"] if server["name"] != BASELINE]
    colour = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(servers)}
    body, y = legend(servers, colour)
    top = y
    for workload in record["workloads"]:
        figures = summary.get(workload["name"], {})
        bars = [(name, ratio(figures, name, "cpu_us")) for name in servers]
        bars = [(name, value) for name, value in bars if value is not None]
        if not bars:
            continue
        middle = y + len(bars) * (BAR + GAP) / 2
        body.append(f'<text x="{LEFT - 8}" y="{middle + 2:.0f}" text-anchor="end">'
                    f"{escape(workload['name'])}</text>")
        for name, value in bars:
            length = min(value, MOST) / MOST * WIDTH
            body.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" '
                        f'fill="{colour[name]}"><title>{escape(name)}: {value:.2f}</title></rect>')
            body.append(f'<text class="small" x="{LEFT + length + 4:.1f}" y="{y + BAR - 2}">'
                        f"{value:.2f}</text>")
            y += BAR + GAP
        y += GROUP
    one = LEFT + WIDTH / MOST
    body.append(f'<line class="axis" x1="{LEFT}" y1="{top - 6}" x2="{LEFT}" y2="{y}"/>')
    body.append(f'<line class="axis" x1="{one}" y1="{top - 6}" x2="{one}" y2="{y}" '
                'stroke-dasharray="4 3"/>')
    body.append(f'<text class="small" x="{one}" y="{y + 12}" text-anchor="middle">'
                f"{BASELINE} = 1</text>")
    width, height = LEFT + WIDTH + RIGHT, y + 22
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">\n<style>{STYLE}</style>\n'
            + "\n".join(body) + "\n</svg>\n")


def legend(servers, colour):
    """The title and the names with their colours, four a line; and where what follows begins."""
    body = ['<text x="8" y="18" font-weight="bold">CPU time of the server per call, as a ratio to '
            f"{BASELINE} (less is better)</text>"]
    for index, name in enumerate(servers):
        x, y = 8 + index % 4 * 190, 34 + index // 4 * 18
        body.append(f'<rect x="{x}" y="{y}" width="11" height="11" rx="2" fill="{colour[name]}"/>')
        body.append(f'<text x="{x + 16}" y="{y + 10}">{escape(name)}</text>')
    return body, 34 + (len(servers) + 3) // 4 * 18 + 14
