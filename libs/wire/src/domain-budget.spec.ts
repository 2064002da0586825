import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import type { Call } from '#model/hypercall/calls';
import { DomainBudget, IN_FLIGHT_MAX, InFlight, OUTCOMES_DOMAIN_MAX, OUTCOMES_VCPU_MAX } from './domain-budget.ts';
import { decodeEnvelope, encodeAnswers, encodeEnvelope, WIDE_MAX } from './messages.ts';
import { VcpuLedger } from './vcpu-ledger.ts';

const VCPUS = 128;
const bytesOf = (body: string): number => body.length * 2;

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

describe('what a domain may have the hypervisor remember', () => {
  it('a guest of 128 vCPUs that asks for the largest answers again and again stays under the stated bound', async () => {
    const budget = new DomainBudget();
    const ledgers = Array.from({ length: VCPUS }, () => new VcpuLedger<string>({ bytesOf, domain: budget.outcomes }));
    const tags = Array.from({ length: WIDE_MAX }, (_, i) => i);
    const largest = encodeAnswers([{ rc: 0, tags }]);
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let round = 1; round <= 4; round++) {
      for (const ledger of ledgers) {
        // A string of its own each, as every answer has.
        const body = Buffer.from(largest).toString('latin1');
        expect(await ledger.run(round, async () => body)).toBe(body);
        expect(budget.outcomes.bytes).toBeLessThanOrEqual(OUTCOMES_DOMAIN_MAX);
      }
    }
    collect();
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(OUTCOMES_DOMAIN_MAX + 8 * 2 ** 20);
    // Their total would have been:
    expect(4 * VCPUS * largest.length).toBeGreaterThan(20 * OUTCOMES_DOMAIN_MAX);
    for (const ledger of ledgers) ledger.close();
    expect(budget.outcomes.bytes).toBe(0);
  }, 60_000);

  it('one vCPU forgets its own oldest outcomes first, and never runs one of them again', async () => {
    const budget = new DomainBudget();
    const quiet = new VcpuLedger<string>({ bytesOf, domain: budget.outcomes });
    const greedy = new VcpuLedger<string>({ bytesOf, domain: budget.outcomes });
    await quiet.run(1, async () => 'small');
    const half = 'x'.repeat(OUTCOMES_VCPU_MAX / 4);
    for (let seq = 1; seq <= 20; seq++) await greedy.run(seq, async () => half);
    expect([1, 18, 19, 20].map((seq) => greedy.state(seq))).toEqual(['too old', 'too old', 'finished', 'finished']);
    expect(greedy.run(1, () => expect.unreachable())).toBeNull();
    expect([quiet.state(1), budget.outcomes.bytes]).toEqual(['finished', OUTCOMES_VCPU_MAX + 10]);
  });
});

describe('what a domain may have in flight', () => {
  it('large envelopes wait for each other in order, small ones behind them too, and one too large has all to itself', async () => {
    const flight = new InFlight(100);
    const order: string[] = [];
    const first = flight.tryTake(80);
    const second = flight.take(1000).then((share) => {
      order.push('large');
      return share;
    });
    const third = flight.take(10).then((share) => {
      order.push('small');
      return share;
    });
    expect([first?.bytes, flight.tryTake(1)]).toEqual([80, null]);
    if (first) flight.give(first);
    flight.give(await second);
    flight.give(await third);
    expect([order, flight.bytes]).toEqual([['large', 'small'], 0]);
  });

  it.each<[string, Call, number]>([
    ['a load', { op: 'load', frames: { start: 0, count: 4096 } }, 4096],
    ['a memory map', { op: 'memory_map' }, 384],
    ['a list of domains', { op: 'getdomaininfolist', first: 0, max: 2 ** 32 - 1 }, 32_768],
    ['reserved regions', { op: 'reserved_device_memory_map', flags: 1, sbdf: 0, capacity: 2 ** 32 - 1 }, 256],
    ['a touch', { op: 'touch', frames: { start: 0, count: 4096 } }, 0],
  ])('%s is counted by what its answer may carry', (_, call, values) => {
    expect(decodeEnvelope(encodeEnvelope('aa', 1, 1, [call, call])).valueCount).toBe(2 * values);
    const many = decodeEnvelope(encodeEnvelope('aa', 1, 1, new Array(4096).fill(call)));
    expect(many.valueCount).toBeLessThanOrEqual(WIDE_MAX);
    expect(many.calls.length).toBe(values === 0 ? 4096 : Math.min(4096, Math.floor(WIDE_MAX / values)));
    expect(many.valueCount * 160).toBeLessThan(IN_FLIGHT_MAX);
  });
});
