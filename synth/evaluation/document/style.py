"""The style sheet of the page. It stands in Python so that it is installed with the code; colours follow the reader."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --faint: #55626f; --line: #d9dfe5; --soft: #f4f6f8; --page: #ffffff;
  --mark: #0f6b84; --control: #a35200; --bad: #b3261e; --bad-soft: #fdf0ef; --good: #1b6e3c; --good-soft: #eef7f1;
  --warn: #7a4f00; --warn-soft: #fdf6e7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaee; --faint: #a4b0bb; --line: #36414c; --soft: #1c242c; --page: #12181e; --mark: #58b9d3;
    --control: #f0a44c; --bad: #ff8a80; --bad-soft: #33191a; --good: #7fd3a0; --good-soft: #15291d; --warn: #f2c063;
    --warn-soft: #2c2413; }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif; font-variant-numeric: tabular-nums; overflow-wrap:
  break-word; }
dd, li, p, h1, figcaption, tbody th { overflow-wrap: anywhere; }
main { max-width: 1120px; margin: 0 auto; padding: 1.2rem 1.5rem 3rem; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -0.015em; margin: 0.6rem 0 1.2rem; }
h1 small { display: block; font-size: 0.9rem; font-weight: 600; letter-spacing: 0.02em; color: var(--mark); }
h2 { font-size: 1.4rem; letter-spacing: -0.01em; margin: 3rem 0 0.8rem; padding-top: 1rem; border-top: 2px solid
  var(--line); }
h3 { font-size: 1.12rem; margin: 2.2rem 0 0.2rem; }
p { margin: 0.4rem 0 0.9rem; max-width: 46rem; }
a { color: var(--mark); }
small { font-size: 0.84rem; color: var(--faint); }
code { font: 0.86em ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
code.hash { color: var(--faint); word-break: break-all; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: 0.7rem 0.9rem; white-space:
  pre-wrap; }
.lead { color: var(--faint); margin-top: 0; }
.quiet { color: var(--faint); }
.good { color: var(--good); }
.bad { color: var(--bad); }
.banner, footer { margin: 0; padding: 0.5rem 1.5rem; max-width: none; text-align: center; font-weight: 600; font-size:
  0.9rem; color: #ffffff; background: #9c1c16; }
.banner.public { background: #0d5a6f; }
.verdict { border: 1px solid var(--line); border-left: 8px solid var(--faint); border-radius: 8px; padding: 0.9rem
  1.3rem; background: var(--soft); }
.verdict .word { font-size: 1.7rem; font-weight: 700; line-height: 1.2; margin: 0.1rem 0 0.5rem; }
.verdict ul { margin: 0 0 0.7rem; padding-left: 1.2rem; }
.verdict li { margin: 0.2rem 0; max-width: 54rem; }
.verdict p.quiet { margin: 0; font-size: 0.9rem; }
.verdict.passed { border-left-color: var(--good); background: var(--good-soft); }
.passed .word { color: var(--good); }
.verdict.refused { border-left-color: var(--bad); background: var(--bad-soft); }
.refused .word { color: var(--bad); }
.verdict.invalid { border-left-color: var(--warn); background: var(--warn-soft); }
.invalid .word { color: var(--warn); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; padding: 0; margin: 1rem 0 0;
  font-size: 0.92rem; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
.facts { display: grid; grid-template-columns: minmax(9rem, 13rem) 1fr; gap: 0.35rem 1.2rem; margin: 0.5rem 0 1.5rem;
  }
.facts dt { color: var(--faint); }
.facts dd { margin: 0; min-width: 0; }
.plain { list-style: none; padding: 0; margin: 0; }
.plain.inline { display: flex; flex-wrap: wrap; gap: 0 1.2rem; }
.scroll { overflow-x: auto; margin: 0.6rem 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.94rem; }
caption { caption-side: bottom; text-align: left; color: var(--faint); font-size: 0.84rem; padding-top: 0.5rem; }
th, td { text-align: left; vertical-align: top; padding: 0.5rem 0.7rem 0.5rem 0; border-bottom: 1px solid var(--line);
  }
thead th { color: var(--faint); font-weight: 600; font-size: 0.84rem; border-bottom: 2px solid var(--line);
  white-space: nowrap; }
tbody th { font-weight: 600; }
th small { display: block; font-weight: 400; }
td.number { white-space: nowrap; }
td small { display: block; white-space: normal; max-width: 26rem; }
.scores tbody th { width: 38%; }
.scores .range { color: var(--faint); margin-left: 0.6rem; }
.scores .sign { display: inline-block; min-width: 1.2rem; margin-right: 0.5rem; color: var(--faint); }
.words tbody th { min-width: 9.5rem; overflow-wrap: normal; }
.compact { font-size: 0.88rem; }
.compact th, .compact td { padding: 0.25rem 0.7rem 0.25rem 0; }
tr.missing th, tr.missing td { color: var(--faint); font-weight: 400; }
tr.failed th, tr.failed td { background: var(--bad-soft); }
tr.failed th { padding-left: 0.6rem; }
.bars { width: 45%; vertical-align: middle; }
.bar { display: block; height: 0.6rem; background: var(--mark); border-radius: 2px; }
details { margin: 0.8rem 0; }
summary { cursor: pointer; color: var(--mark); font-size: 0.92rem; }
.meanings { font-size: 0.92rem; }
.meanings dt { font-weight: 600; margin-top: 0.6rem; }
.meanings dd { margin: 0; max-width: 46rem; }
.meanings dd small { display: block; }
.meanings code { color: var(--faint); font-weight: 400; }
figure { margin: 0; }
figcaption { color: var(--faint); font-size: 0.84rem; margin: 0.3rem 0; }
figcaption b { color: var(--ink); }
figcaption b.bad { color: var(--bad); }
figcaption b.good { color: var(--good); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.6rem 2.4rem;
  margin: 0.6rem 0; align-items: start; }
.chart { width: 100%; max-width: 33rem; height: auto; display: block; }
.chart text { fill: var(--ink); }
.chart .label { font-size: 11.5px; font-weight: 500; }
.chart .note, .chart .tick { font-size: 10px; fill: var(--faint); }
.chart .grid { stroke: var(--line); }
.chart .axis { stroke: var(--faint); stroke-width: 0.8; }
.chart .interval { stroke: var(--mark); stroke-width: 2.6; stroke-linecap: round; }
.chart .value { fill: var(--mark); }
.chart .control { fill: none; stroke: var(--control); stroke-width: 1.8; }
.chart .whole { stroke: var(--faint); stroke-dasharray: 4 3; }
img { max-width: 100%; height: auto; display: block; background: #000; border-radius: 4px; }
img.small { image-rendering: pixelated; }
.charts figure > img { width: 100%; max-width: 33rem; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.4rem 2rem; }
.pair { border-top: 3px solid var(--line); padding-top: 0.5rem; }
.pair.copy { border-top-color: var(--bad); }
.triple { display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.4rem; }
.volumes { display: grid; gap: 0.5rem; }
.picture img, .row img { width: 100%; }
.absent { display: grid; place-items: center; min-height: 6rem; background: var(--soft); color: var(--faint);
  font-size: 0.84rem; }
.label { font-size: 0.8rem; color: var(--faint); }
span.label { display: inline-block; }
.label.real { color: #ffffff; background: #9c1c16; border-radius: 3px; padding: 0 0.35rem; margin-top: 0.2rem; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.2rem, 1fr)); gap: 0.7rem; }
.row.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); }
footer { margin-top: 2rem; }
@media (max-width: 640px) {
  main { padding: 0.8rem 1rem 2rem; }
  h1 { font-size: 1.6rem; }
  h2 { margin-top: 2.2rem; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: 0.7rem; }
  table, tbody, tr, th, td { display: block; width: auto !important; }
  caption { display: block; }
  thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden; white-space: nowrap; }
  tbody tr { border-bottom: 1px solid var(--line); padding: 0.5rem 0; }
  tr.failed { background: var(--bad-soft); padding-inline: 0.6rem; }
  tbody th, tbody td { border: 0; padding: 0.08rem 0; }
  tr.failed th { padding-left: 0; }
  td[data-label] { position: relative; padding-left: 6.4rem; min-height: 1.5em; white-space: normal; }
  td[data-label]::before { content: attr(data-label); position: absolute; left: 0; width: 6rem; color: var(--faint);
    font-size: 0.84rem; line-height: 1.8; }
  td small { max-width: none; }
  td.bars { display: none; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --faint: #444; --line: #bbb; --soft: #f6f6f6; --page: #fff; --mark:
    #0f6b84; --control: #a35200; --bad: #b3261e; --bad-soft: #fdf0ef; --good: #1b6e3c; --good-soft: #eef7f1; --warn:
    #7a4f00; --warn-soft: #fdf6e7; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  @page { margin: 16mm 12mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav, summary { display: none; }
  .banner { background: none; color: #000; border-bottom: 1px solid #000; }
  footer { display: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
  tr, figure, .verdict { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
