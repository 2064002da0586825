// Policy `p2m.lookup: stale`: a copy translates a gfn of its caller's and lets the frame go before it uses it, as code does that takes a
// machine frame from a lookup without a reference. What comes of it is judged when the frame is used.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';

/** The frame behind `g`, which nothing holds. The caller's reference goes. */
export function letGo(h: Host, of: Domain, g: number, m: Mfn) {
  putPage(h, m);
  return { mfn: m, owner: of, release: () => {}, judge: () => judgeUse(h, of, g, m) };
}

/** The copy is about to read or write `m`: it must be the domain's still, and at that gfn. */
function judgeUse(h: Host, of: Domain, g: number, m: Mfn): void {
  const owner = h.frames.ownerOf(m);
  const at = h.frames.gfnOf(m);
  if (owner === of.domid && at === g) return;
  const whose = owner < 0 ? 'nobody’s' : `d${owner}’s${at >= 0 ? `, at gfn ${at.toString(16)}` : ''}`;
  h.platform.violation({
    invariant: 'translationHeldWhileUsed',
    text: `a copy of d${of.domid} uses mfn ${m.toString(16)}, found at gfn ${g.toString(16)}: it is ${whose} now`,
    evidence: { domid: of.domid, gfn: g, mfn: m, owner },
  });
}
