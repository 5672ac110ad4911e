"""Distance of drawn sequences from the truth against steps, on two logarithmic axes."""

import altair as alt
import pandas as pd

from reports.charts.theme import SUBJECT_COLORS, WIDTH, chart_data, chart_title, themed

_HEIGHT = 360


def exactness_chart(table: pd.DataFrame, by: str = "steps") -> alt.typing.ChartType:
    """Total variation from the exact chain: a line per sampler, the closed form dashed, chance as a gray line.

    Args:
        table: rows of `exactness_tables.exactness_table`.
        by: `steps`, or `nfe` for network evaluations (which leaves out the closed form, as it has none).
    """
    title = {"steps": "denoising steps", "nfe": "network evaluations"}[by]
    rows = chart_data(table[table[by].notna()], "exactness")
    drawn, formula = rows[rows["basis"] == "drawn"], rows[rows["basis"] == "closed form"]
    x = alt.X(f"{by}:Q").scale(type="log", base=2, nice=False).axis(format="d").title(title)
    y = alt.Y("total_variation:Q").scale(type="log").title("total variation from the exact chain")
    series = list(dict.fromkeys(drawn["series"]))
    colors = [SUBJECT_COLORS[i % len(SUBJECT_COLORS)] for i in range(len(series))]
    color = alt.Color("series:N").title("sampler").sort(series).scale(domain=series, range=colors)
    tooltip = [
        alt.Tooltip("series:N").title("sampler"),
        alt.Tooltip("knobs:N"),
        alt.Tooltip("steps:Q"),
        alt.Tooltip("nfe:Q").title("network evaluations"),
        alt.Tooltip("total_variation:Q", format=".4f").title("total variation"),
    ]
    base = alt.Chart(drawn).encode(x=x, y=y, color=color.legend(orient="bottom", columns=3), tooltip=tooltip)
    layers: list[alt.Chart] = [base.mark_line(strokeWidth=1.8), base.mark_point(filled=True, size=60)]
    if len(formula):
        layers.append(
            alt.Chart(formula)
            .mark_line(color="#000000", strokeDash=[5, 4], strokeWidth=1.3)
            .encode(x=x, y=y, tooltip=tooltip[:1] + tooltip[2:3] + tooltip[4:])
        )
    if len(drawn):
        floor = drawn.assign(floor_text="perfect draws, by chance").head(1)
        layers.append(alt.Chart(floor).mark_rule(color="#999999", strokeDash=[2, 3]).encode(y="noise_floor:Q"))
    subtitle = "dashed: closed form of ancestral sampling; dotted: what as many perfect draws show by chance"
    heading = chart_title(f"Error against {title}", subtitle)
    return themed(alt.layer(*layers).properties(width=WIDTH, height=_HEIGHT, title=heading))
