import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VcpuLedger } from './vcpu-ledger.ts';

describe('the ledger of a vCPU', () => {
  it('runs an effect once and answers redeliveries from what was recorded', async () => {
    const ledger = new VcpuLedger<number>();
    let effects = 0;
    const effect = async () => ++effects;
    expect(await ledger.run(1, effect)).toBe(1);
    expect(await ledger.run(1, effect)).toBe(1);
    expect(ledger.state(1)).toBe('finished');
  });

  it('attaches a redelivery to a call in flight, which is never forgotten before it ends', async () => {
    const ledger = new VcpuLedger<string>({ window: 4 });
    let finish: (value: string) => void = () => {};
    const first = ledger.run(1, () => new Promise((resolve) => (finish = resolve)));
    for (let seq = 2; seq < 20; seq++) await ledger.run(seq, async () => 'later');
    expect(ledger.state(1)).toBe('in flight');
    expect(ledger.run(1, async () => 'twice')).toBe(first);
    finish('once');
    expect(await first).toBe('once');
    expect(ledger.state(1)).toBe('too old');
    expect(ledger.run(1, async () => 'twice')).toBeNull();
  });

  it('remembers a failure as an outcome', async () => {
    const ledger = new VcpuLedger<number>();
    await expect(ledger.run(1, () => Promise.reject(new Error('once')))).rejects.toThrow('once');
    await expect(ledger.run(1, async () => 2)).rejects.toThrow('once');
  });

  it('has no second effect under any order of deliveries', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 200 }), async (deliveries) => {
        const ledger = new VcpuLedger<number>({ window: 8 });
        const effects = new Map<number, number>();
        for (const seq of deliveries) {
          const outcome = await ledger.run(seq, async () => {
            effects.set(seq, (effects.get(seq) ?? 0) + 1);
            return seq;
          });
          expect(outcome === null || outcome === seq).toBe(true);
        }
        expect([...effects.values()].every((n) => n === 1)).toBe(true);
      }),
    );
  });
});
