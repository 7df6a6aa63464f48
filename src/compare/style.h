// How a report looks: on screens wide and narrow, light and dark, and on paper.
#pragma once

namespace nibble {

inline constexpr const char* kStyle = R"css(
:root {
  color-scheme: light dark;
  --page: #fbfbf9; --card: #fff; --ink: #1d2329; --soft: #5a6570; --rule: #dfe3e6; --tint: #f1f4f5;
  --accent: #0b6e75; --accent-soft: #0b6e7522; --grey: #9aa4ac; --mark: #ffe08a; --mark-ink: #402c00;
  --bad: #a32020;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181b; --card: #1b2024; --ink: #e6eaec; --soft: #9eabb4; --rule: #333b41; --tint: #22292e;
    --accent: #4fc3c7; --accent-soft: #4fc3c72e; --grey: #75818a; --mark: #6b5200; --mark-ink: #fff1c9;
    --bad: #ff8f85;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
main { max-width: 82rem; margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 3rem) 4rem; }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.15; margin: 0 0 .4rem; letter-spacing: -.02em;
     overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 3rem 0 .5rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
p { max-width: 46rem; margin: .4rem 0 .8rem; }
.lead, .note, figcaption { color: var(--soft); }
.note, figcaption { font-size: .87rem; }
.advice { background: var(--card); border: 1px solid var(--rule); border-left: 4px solid var(--accent);
          border-radius: 8px; padding: 1rem 1.3rem; margin: 1.6rem 0; }
.advice p { max-width: 62rem; margin: .5rem 0; }
.advice p strong { color: var(--accent); }
.wide { overflow-x: auto; border: 1px solid var(--rule); border-radius: 8px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .5rem .65rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--rule); }
thead th { border-top: 0; white-space: normal; vertical-align: bottom; font-weight: 600; font-size: .8rem; color: var(--soft);
           line-height: 1.25; }
thead small { display: block; font-weight: 400; }
th:first-child, .left { text-align: left; }
tbody th { font-weight: 600; max-width: 18rem; overflow: hidden; text-overflow: ellipsis; position: sticky;
           left: 0; background: var(--card); }
td small { color: var(--soft); }
tr.original td, tr.original th { background: var(--tint); }
td.best { font-weight: 700; color: var(--accent); }
td.best small { font-weight: 400; }
td.error { text-align: left; white-space: normal; color: var(--bad); overflow-wrap: anywhere; }
figure { margin: 1rem 0; padding: 1rem; background: var(--card); border: 1px solid var(--rule);
         border-radius: 8px; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
.plot { overflow-x: auto; }
.plot svg { min-width: 34rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.grid figure { margin: 0; }
.grid h3 small { display: block; font-weight: 400; }
.maps { grid-template-columns: repeat(auto-fit, minmax(min(100%, 29rem), 1fr)); }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
           fill: var(--ink); }
svg .tick, svg .axis { fill: var(--soft); }
svg .name { font-weight: 600; }
svg .less { font-weight: 400; fill: var(--soft); }
svg line.grid { stroke: var(--rule); }
svg .range { stroke: var(--ink); stroke-width: 1.5; opacity: .55; }
svg .frontier { fill: none; stroke: var(--accent); stroke-width: 2; opacity: .55; }
svg .dot { fill: var(--accent); stroke: var(--card); stroke-width: 1.5; }
svg .beaten { fill: var(--card); stroke: var(--grey); stroke-width: 2; }
svg .bar { fill: var(--accent); }
svg .bar.original { fill: var(--grey); }
svg .cell:hover { stroke: var(--ink); stroke-width: 1.5; }
figure svg.legend { max-width: 24rem; }
.prompt, .answer { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.prompt { margin: .6rem 0; padding: .7rem 1rem; background: var(--tint); border-radius: 8px; font-weight: 600;
          max-height: 16rem; overflow-y: auto; }
.answers { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .9rem 1.1rem;
        min-width: 0; }
.card.original { border-color: var(--accent); background: var(--accent-soft); }
.card h3 { display: flex; justify-content: space-between; gap: 1rem; align-items: baseline; }
.card h3 small { font-weight: 400; color: var(--soft); white-space: nowrap; }
.answer { font-size: .93rem; max-height: 26rem; overflow-y: auto; }
ins { background: var(--mark); color: var(--mark-ink); text-decoration: none; border-radius: 3px;
      padding: 0 1px; -webkit-box-decoration-break: clone; box-decoration-break: clone; }
del { color: var(--bad); text-decoration: none; font-weight: 700; cursor: help; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; font-size: .9rem; margin: .8rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print { figure, .card, .advice { break-inside: avoid; } .answer, .prompt { max-height: none; } }
)css";

}  // namespace nibble
