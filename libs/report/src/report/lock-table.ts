// The lock profile of a twin as a table with bars: how long each lock was held, how long others waited for it.
import { type LockProfileRow, lockTitle } from '#formats/lockprof';
import { count, duration, html, type Markup, plural } from './markup.ts';

const LOCKS_SHOWN = 12;

function bar(kind: 'hold' | 'wait', ns: number, max: number): Markup {
  const width = max > 0 ? (ns / max) * 100 : 0;
  return html`<span class="bar"><i class="${kind}" style="width:${width.toFixed(1)}%"></i></span>`;
}

export function lockTable(locks: readonly LockProfileRow[]): Markup {
  const byCost = [...locks].sort((a, b) => b.blockNs - a.blockNs || b.holdNs - a.holdNs);
  // one scale for both bars, so that a wait can be compared with a hold
  const max = Math.max(0, ...locks.flatMap(({ holdNs, blockNs }) => [holdNs, blockNs]));
  const row = (lock: LockProfileRow): Markup => {
    const contended = lock.lockCnt > 0 ? `${((lock.blockCnt / lock.lockCnt) * 100).toFixed(1)}` : '–';
    return html`<tr><td class="wrap">${lockTitle(lock)}${!lock.inXen && ' *'}</td><td class="num">${count(lock.lockCnt)}</td><td class="num">${count(lock.blockCnt)}</td><td class="num">${contended}</td>
<td class="nowrap">${bar('hold', lock.holdNs, max)} ${duration(lock.holdNs / 1000)}</td><td class="nowrap">${bar('wait', lock.blockNs, max)} ${duration(lock.blockNs / 1000)}</td></tr>`;
  };
  const table = (rows: readonly LockProfileRow[]): Markup => html`<div class="scroll"><table>
<thead><tr><th>lock</th><th class="num">taken</th><th class="num">had to wait</th><th class="num">contended %</th><th>held</th><th>waited for</th></tr></thead>
<tbody>${rows.map(row)}</tbody></table></div>`;
  const rest = byCost.slice(LOCKS_SHOWN);
  return html`${table(byCost.slice(0, LOCKS_SHOWN))}${rest.length > 0 && html`<details class="more"><summary>${plural(rest.length, 'more lock')}</summary>${table(rest)}</details>`}${
    locks.some(({ inXen }) => !inXen) && html`<p class="faint">* not in real Xen's lock profile</p>`
  }`;
}
