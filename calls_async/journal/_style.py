"""How a report looks; the rule: readable in the light, in the dark, on a phone and on paper.

Each colour has at least the contrast that WCAG 2.2 asks for (AA: 4.5 for texts, 3 for shapes).
There is nothing that moves.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #ffffff; --text: #1b2130; --quiet: #566074; --line: #d9dde5;
  --fetched: #2464b4; --failed: #c2410c; --retries: #7c4dbd; --latency: #0f766e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10141b; --card: #181e28; --text: #e7eaf0; --quiet: #a5afbf; --line: #2e3745;
    --fetched: #6ba5f2; --failed: #fb9258; --retries: #b794f6; --latency: #4fc7b9;
  }
}
@media print { :root { --page: #ffffff; } section { break-inside: avoid; } }
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
main, header, footer { max-width: 62rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 2rem; }
footer { padding-bottom: 3rem; color: var(--quiet); font-size: 0.875rem; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; letter-spacing: -0.01em; }
h2 { margin: 0 0 0.25rem; font-size: 1.125rem; }
p { margin: 0.25rem 0 0.75rem; }
.quiet, figcaption, caption, dt { color: var(--quiet); }
header p, .texts td, .texts th { overflow-wrap: anywhere; }
section {
  margin: 1rem 0; padding: 1.25rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 0.75rem;
}
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 1rem;
  margin: 0; }
dt { font-size: 0.875rem; }
dd { margin: 0; font-size: 1.375rem; font-weight: 600; line-height: 1.25; }
dd small { display: block; color: var(--quiet); font-size: 0.8125rem; font-weight: 400; }
figure { margin: 0.75rem 0 0; }
figcaption { margin-top: 0.5rem; font-size: 0.875rem; }
.plot { display: grid; grid-template-columns: auto 1fr; column-gap: 0.5rem; }
.plot svg { grid-column: 2; display: block; width: 100%; height: 13rem; overflow: visible; }
.strip .plot { grid-template-columns: 1fr; }
.strip .plot svg { grid-column: 1; height: 2rem; background: var(--page); border-radius: 0.25rem; }
.upright, .along { display: flex; justify-content: space-between; color: var(--quiet);
  font-size: 0.75rem; line-height: 1; white-space: nowrap; }
.upright { flex-direction: column; text-align: right; margin: -0.375rem 0; }
.along { grid-column: -2; padding-top: 0.5rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; margin: 0 0 0.75rem; padding: 0;
  list-style: none; font-size: 0.875rem; }
.key { width: 0.75rem; height: 0.75rem; margin-right: 0.375rem; }
.grid { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; fill: none; }
.fetched { fill: var(--fetched); } .failed { fill: var(--failed); }
.retries { fill: var(--retries); } .latency { fill: var(--latency); }
.share { display: block; width: 100%; min-width: 3rem; height: 0.625rem; margin-top: 0.375rem; }
.scroll { overflow-x: auto; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--fetched);
  outline-offset: 2px; }
table { width: 100%; border-collapse: collapse; font-size: 0.875rem; }
td:has(.share) { width: 40%; }
.texts { min-width: 40rem; }
.texts td:nth-child(2) { overflow-wrap: break-word; }
.texts thead th:nth-child(n + 4) { width: 4rem; }
caption { padding: 0.5rem 0; text-align: left; }
th, td { padding: 0.375rem 0.75rem 0.375rem 0; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; }
th { font-weight: 600; }
thead th { color: var(--quiet); white-space: nowrap; }
details { margin-top: 0.5rem; font-size: 0.875rem; }
summary { cursor: pointer; color: var(--quiet); width: fit-content; }
@media (max-width: 30rem) {
  section { padding: 1rem; }
  .plot svg { height: 10rem; }
  .along span:nth-child(even):not(:last-child) { display: none; }
}
"""
