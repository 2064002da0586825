import { bareDomain, bootSmall } from '../libs/model/test-support/p2m-fixture.ts';
import { p2mLock, p2mUnlock } from '#model/p2m/p2m';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { p2mSetEntry } from '#model/p2m/set-entry';
import { AccessOutcome, guestAccess } from '#model/p2m/guest-access';
import { guestPhysmapAddPage } from '#model/p2m/physmap';
const N = 2 ** 18;
const cpu = () => { const u = process.cpuUsage(); return (u.user + u.system) * 1000; };
const med = (a: number[]) => a.sort((x, y) => x - y)[a.length >> 1];
const { h } = bootSmall({ frames: 2 ** 20 });
const d = bareDomain(h, 1, 4096);
d.r.features |= 4;
const r: Record<string, number[]> = { set4k: [], add2m: [], peek: [], hit: [], walk: [] };
const leaf = new Leaf(); const out = new AccessOutcome();
for (let round = 0; round < 7; round++) {
  let t = cpu(); p2mLock(h, d); for (let g = 0; g < N; g++) p2mSetEntry(h, d, g, (N + g) as never, 0, 0, 7); p2mUnlock(h, d); r.set4k!.push((cpu() - t) / N);
  t = cpu(); for (let i = 0; i < N; i++) peekEntry(h, d, (i * 7919) % N, leaf); r.peek!.push((cpu() - t) / N);
  for (let m = N; m < 2*N; m++) h.frames.setOwner(m as never, 1 as never);
  t = cpu(); for (let i = 0; i < N; i++) guestAccess(h, d, (i * 7919) % N, null, out); r.walk!.push((cpu() - t) / N);
  t = cpu(); for (let i = 0; i < N; i++) guestAccess(h, d, i & 255, 5, out); r.hit!.push((cpu() - t) / N);
  t = cpu(); for (let k = 0; k < N / 512; k++) guestPhysmapAddPage(h, d, N + k * 512, (2 * N + k * 512) as never, 9); r.add2m!.push((cpu() - t) / (N / 512));
}
for (const [k, v] of Object.entries(r)) console.log(k, med(v).toFixed(1), 'ns');
