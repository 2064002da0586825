import { describe, expect, it } from 'vitest';
import { fixture, shipped, told } from '../test-support/explore.ts';
import type { TeethReport } from './teeth.ts';

async function teethOf(path: string, variants: string[]): Promise<TeethReport> {
  const messages = await told(path, { is: 'teeth', variants, seconds: 60, stuck: [] });
  const report = messages.find((m) => m.is === 'teeth');
  if (report?.is !== 'teeth') throw new Error('nothing was told');
  return report.report;
}

describe('teeth', () => {
  it('a store, a reference and a flush that are left out of an operation of the model are noticed', async () => {
    const { caught, mutants, survivors } = await teethOf(shipped('shatter'), ['atomic, shared tables']);
    const noticed = caught.map(({ what }) => what.split(' ')[0]);
    for (const kind of ['refTake', 'ptWrite', 'hwFlush', 'refDrop']) expect(noticed).toContain(kind);
    expect(caught.length + survivors.length).toBe(mutants);
    expect(caught.length / mutants).toBeGreaterThanOrEqual(0.8);
  });

  it('a lock that is left out lets the other one in between', async () => {
    const { caught } = await teethOf(shipped('advisories/xsa-384-486'), ['fixed']);
    expect(caught.map(({ actor, what }) => `${actor}: ${what}`)).toContain('mapper: lock grantTable(d1)');
  });

  it('what is left out of a step program is noticed as well', async () => {
    const { caught } = await teethOf(fixture('paper-steps'), ['right']);
    expect(caught.map(({ what }) => what)).toContain('ioClear io(1)[4] := empty');
  });
});
