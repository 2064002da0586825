// The report's style sheet: inline, no external font or image; light and dark by the reader's setting; wide tables and
// pictures scroll in their own box, so that a phone shows the page without sideways scrolling.

export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f5f6f9; --card: #ffffff; --sunk: #f1f3f7; --line: #e0e4ec; --ink: #171b26; --soft: #566075; --faint: #8690a5;
  --accent: #4453d6; --accent-soft: #eceefd;
  --good: #13774a; --good-soft: #e2f5eb; --bad: #bf2338; --bad-soft: #fdeaec; --unsure: #8f5b00; --unsure-soft: #fdf2d9;
  --ram: #3e8f8b; --pod: #e2a32f; --hole: #eef0f5; --mmio: #7d6bd8; --rmrr: #d2557f; --reserved: #a3abbb; --mapped: #4a6fd0;
  --shadow: 0 1px 2px rgb(20 26 45 / .06), 0 6px 20px -12px rgb(20 26 45 / .18);
  --mono: ui-monospace, 'SF Mono', 'Cascadia Code', Menlo, Consolas, 'DejaVu Sans Mono', monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1118; --card: #161b26; --sunk: #1d2331; --line: #2a3243; --ink: #e7eaf2; --soft: #a3adc2; --faint: #76819a;
    --accent: #95a1ff; --accent-soft: #222a4d;
    --good: #5fd49b; --good-soft: #12352a; --bad: #ff8391; --bad-soft: #42202a; --unsure: #f0bd5b; --unsure-soft: #3b2e14;
    --ram: #3d918d; --pod: #c98f24; --hole: #1d2331; --mmio: #8675e0; --rmrr: #d0567f; --reserved: #5d677c; --mapped: #5f83e6;
    --shadow: none;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif;
}
.page { max-width: 1180px; margin: 0 auto; padding: 28px 20px 64px; }
h1 { font-size: clamp(22px, 3.4vw, 32px); line-height: 1.22; letter-spacing: -.015em; margin: 6px 0 10px; text-wrap: balance; overflow-wrap: anywhere; }
h2 { font-size: 19px; letter-spacing: -.01em; margin: 0 0 12px; }
h3 { font-size: 12px; text-transform: uppercase; letter-spacing: .07em; color: var(--soft); margin: 26px 0 10px; }
h4 { font-size: 16.5px; letter-spacing: -.005em; margin: 0 0 6px; }
p { margin: 0 0 10px; max-width: 78ch; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
code, pre, .mono { font-family: var(--mono); font-size: .885em; }
code { background: var(--sunk); border: 1px solid var(--line); border-radius: 4px; padding: .04em .32em; overflow-wrap: anywhere; }
.soft { color: var(--soft); } .faint { color: var(--faint); }
.kicker { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; color: var(--soft); font-size: 13px; }
.kicker .mono { font-weight: 600; color: var(--accent); }
header.top { display: grid; grid-template-columns: 1fr auto; gap: 8px 28px; align-items: start; margin-bottom: 22px; }
header.top .lede { color: var(--soft); font-size: 16px; margin: 0; }
.badge {
  display: inline-flex; align-items: center; gap: .45em; border-radius: 999px; padding: .18em .75em; font-weight: 650; font-size: 12.5px;
  letter-spacing: .01em; white-space: nowrap; border: 1px solid color-mix(in srgb, currentColor 28%, transparent);
}
.badge.big { font-size: 19px; padding: .4em 1em; }
.pass { color: var(--good); background: var(--good-soft); }
.fail { color: var(--bad); background: var(--bad-soft); }
.unknown { color: var(--unsure); background: var(--unsure-soft); }
.tag { display: inline-block; font-size: 11.5px; font-weight: 600; border-radius: 5px; padding: .1em .5em; background: var(--sunk); color: var(--soft); border: 1px solid var(--line); }
.tag.buggy { color: var(--bad); } .tag.fixed { color: var(--good); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 0 0 20px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 12px 16px; box-shadow: var(--shadow); min-width: 0; }
.tile b { display: block; font-size: 23px; line-height: 1.2; letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 12.5px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 20px 22px; margin: 0 0 18px; box-shadow: var(--shadow); }
.scroll { overflow-x: auto; margin: 0 -4px; padding: 0 4px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: 13px; padding: 2px 0 6px; }
th { text-align: left; font-weight: 600; font-size: 12px; color: var(--soft); white-space: nowrap; padding: 6px 10px; border-bottom: 1px solid var(--line); vertical-align: bottom; }
td { padding: 7px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { padding-left: 4px; }
.num { text-align: right; } th.narrow { white-space: normal; min-width: 7.5em; } .small { font-size: 12px; } td.num { white-space: nowrap; } .nowrap { white-space: nowrap; }
td .mono, td.mono { font-size: 12.5px; }
td.bad, .bad-text { color: var(--bad); font-weight: 600; } .good-text { color: var(--good); font-weight: 600; } .unsure-text { color: var(--unsure); font-weight: 600; }
.wrap { overflow-wrap: anywhere; min-width: 12em; }
tr.gap td { color: var(--faint); font-style: italic; }
.knob { font-family: var(--mono); font-size: 12.5px; }
.knob.differs { background: var(--accent-soft); color: var(--accent); border-radius: 5px; padding: .12em .45em; }
pre.log { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 11.5px; line-height: 1.5; }
details.twin { background: var(--card); border: 1px solid var(--line); border-radius: 14px; margin: 0 0 14px; box-shadow: var(--shadow); }
details.twin > summary { list-style: none; cursor: pointer; padding: 15px 22px; display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; }
details.twin > summary::-webkit-details-marker { display: none; }
details.twin > summary::before { content: ''; width: 7px; height: 7px; border: solid var(--faint); border-width: 0 2px 2px 0; transform: rotate(-45deg); transition: transform .12s; flex: none; }
details.twin[open] > summary::before { transform: rotate(45deg) translate(-2px, -2px); }
details.twin > summary strong { font-size: 16.5px; letter-spacing: -.01em; overflow-wrap: anywhere; }
details.twin > summary .right { margin-left: auto; display: flex; flex-wrap: wrap; gap: 12px; align-items: center; }
summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 6px; }
.inside { padding: 0 22px 22px; scroll-margin-top: 84px; }
.why { background: var(--accent-soft); border-left: 3px solid var(--accent); border-radius: 0 10px 10px 0; padding: 15px 18px 9px; margin: 0 0 12px; }
.why code { background: color-mix(in srgb, var(--card) 65%, transparent); }
.why table { background: color-mix(in srgb, var(--card) 70%, transparent); border-radius: 8px; margin: 4px 0 10px; }
.why td, .why th { padding-left: 10px; }
details.more > summary { cursor: pointer; color: var(--accent); font-size: 13px; padding: 8px 4px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 12.5px; color: var(--soft); margin-top: 4px; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; border: 1px solid color-mix(in srgb, var(--ink) 14%, transparent); }
svg { display: block; width: 100%; min-width: 780px; height: auto; font-family: inherit; }
svg text { fill: var(--ink); font-size: 12px; } svg .axis { fill: var(--soft); font-size: 11px; font-family: var(--mono); } svg .lane { fill: var(--soft); font-size: 12px; font-weight: 600; }
svg .on { fill: #fff; font-weight: 600; } svg .on.dark { fill: #2e2003; } svg .off { fill: var(--soft); } svg .pin { fill: var(--bad); font-weight: 650; } svg .pin.code { font-family: var(--mono); font-size: 11.5px; }
.ram { fill: var(--ram); background: var(--ram); } .mmio { fill: var(--mmio); background: var(--mmio); } .rmrr { fill: var(--rmrr); background: var(--rmrr); }
.reserved { fill: var(--reserved); background: var(--reserved); } .mapped { fill: var(--mapped); background: var(--mapped); }
.pod { fill: var(--pod); background: var(--pod); } .hole { fill: var(--hole); background: var(--hole); } .absent { fill: none; background: var(--card); }
.edge { stroke: var(--card); stroke-width: 1.5; } .frame { fill: none; stroke: var(--line); } .dashed { fill: none; stroke: var(--faint); stroke-dasharray: 4 3; }
.stripe { stroke: rgb(255 255 255 / .38); stroke-width: 3; }
.columns { columns: 330px; column-gap: 36px; }
.columns div { display: flex; justify-content: space-between; gap: 14px; padding: 3px 0; border-bottom: 1px dotted var(--line); break-inside: avoid; font-size: 13px; font-variant-numeric: tabular-nums; }
.bar { display: inline-block; width: 110px; height: 8px; border-radius: 4px; background: var(--sunk); overflow: hidden; vertical-align: 1px; }
.bar.short { width: 64px; height: 6px; }
.bar > i { display: block; height: 100%; border-radius: 4px; } .bar .hold { background: var(--mapped); } .bar .wait { background: var(--bad); }
.dot { display: inline-grid; place-items: center; min-width: 20px; height: 20px; padding: 0 3px; border-radius: 10px; font-size: 11px; font-weight: 650; background: var(--sunk); color: var(--soft); border: 1px solid var(--line); }
.dot.bad { background: var(--bad-soft); color: var(--bad); border-color: var(--bad); } .dot.good { background: var(--good-soft); color: var(--good); border-color: var(--good); }
footer { color: var(--soft); font-size: 13px; margin-top: 26px; } footer ul { padding-left: 18px; margin: 6px 0 0; }
@media (max-width: 640px) {
  .page { padding: 18px 12px 48px; } header.top { grid-template-columns: 1fr; } .card, .inside { padding-left: 14px; padding-right: 14px; }
  details.twin > summary { padding: 13px 14px; } details.twin > summary .right { margin-left: 0; width: 100%; }
  .tiles { grid-template-columns: 1fr 1fr; } .badge.big { font-size: 16px; }
}
@media print { body { background: #fff; } .card, details.twin, .tile { box-shadow: none; break-inside: avoid-page; } }
`;
