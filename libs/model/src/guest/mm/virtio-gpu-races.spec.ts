import { describe, expect, it } from 'vitest';
import { expectSound, hypercall } from '../../../test-support/hypercall-fixture.ts';
import { GUEST_CPU, Lender, PAGES, WINDOW } from '../../../test-support/lender-fixture.ts';
import { checkMm } from './mm-invariants.ts';
import type { VirtioGpuConfig } from './virtio-gpu-backend.ts';

/** A guest that touches a buffer all the time, and a kernel that moves the buffer between RAM and the GPU's memory all the time. */
async function race(
  some: Partial<VirtioGpuConfig>,
  kind: 'vram' | 'file',
  enough: (lender: Lender) => boolean,
  ms: number,
): Promise<Lender> {
  const lender = new Lender(kind, some);
  const churn = kind === 'file' ? 'file-churn' : 'churn';
  for (const [i, role] of (['serve', churn, churn] as const).entries()) await lender.start(role, i + 1, 5 + i);
  await lender.start('guest', GUEST_CPU, 99);
  await lender.runUntil(() => enough(lender), ms);
  await lender.stop();
  expect(lender.view.mm.panicCell.message()).toBeNull();
  expect(lender.bed.h.panicCell.message()).toBeNull();
  return lender;
}

describe('a guest touches a native context’s buffer while the backend’s kernel moves it', () => {
  for (const retryCheck of ['under-lock', 'hypervisor'] as const) {
    it(`always finds what it wrote, and never a page that was taken away (retry check: ${retryCheck})`, async () => {
      const lender = await race(
        { retryCheck },
        'vram',
        (l) => l.read('accesses') > 1500 && l.read('moves') > 1500,
        30_000,
      );
      expect(lender.read('accesses')).toBeGreaterThan(500);
      expect(lender.read('revoked')).toBeGreaterThan(100);
      expect([lender.read('wrong'), lender.read('violations'), lender.read('stale')]).toEqual([0, 0, 0]);
      expect(checkMm(lender.view.mm)).toEqual([]);
      expectSound(lender.bed);
    });
  }

  it('finds another page’s content when the backend does not look whether to retry', async () => {
    const lender = await race({ retryCheck: 'missing' }, 'vram', (l) => l.read('wrong') > 0, 50_000);
    expect(lender.read('stale')).toBeGreaterThan(0);
    expect(lender.read('wrong')).toBeGreaterThan(0);
  });
});

it('no write to a lent file is lost: write-back takes the right to write away, and the next write is a fault', async () => {
  const lender = await race({}, 'file', (l) => l.read('accesses') > 1500 && l.read('moves') > 1500, 30_000);
  expect(lender.read('revoked')).toBeGreaterThan(50);
  // A truncated page is lost on purpose; what counts is that no clean page differed from its file.
  expect([lender.read('violations'), lender.read('stale')]).toEqual([0, 0]);
  expect(checkMm(lender.view.mm)).toEqual([]);
  expectSound(lender.bed);
});

it('after close nothing is lent, and a touch is no longer the backend’s', async () => {
  const lender = await race({}, 'vram', (l) => l.read('accesses') > 50, 20_000);
  lender.view.backend.close(lender.shared.sub);
  const frames = { start: WINDOW, count: PAGES };
  expect(hypercall(lender.bed, lender.guest, { op: 'touch', frames }).faulted).toBe(PAGES);
  expectSound(lender.bed);
});
