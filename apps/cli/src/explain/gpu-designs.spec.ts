// The comparison of designs in a report: who gets it, and that its figures are of the run's host.
import { expect, it } from 'vitest';
import { loadScenario } from '#formats/scenario-file';
import type { TwinResult } from '#report/verdict';
import { withDesigns } from './gpu-designs.ts';

const resultsOf = (file: string) => {
  const { twins } = loadScenario(`scenarios/${file}.yaml`, { root: '.' });
  const results = twins.map(({ name }) => ({ name, explanation: [] }) as unknown as TwinResult); // all that is looked at
  return withDesigns(twins, results);
};

it('stands in every twin whose tables are shadowed, with what each design exposes of this host', () => {
  const results = resultsOf('gpa-collision');
  expect(results.map(({ name, explanation }) => [name, explanation.length])).toEqual([
    ['guest-addresses', 0],
    ['machine-frames', 1],
    ['bus-frames', 1],
    ['dom0-gfns', 1],
  ]);
  const table = results.find(({ name }) => name === 'bus-frames')?.explanation[0]?.tables?.[0];
  expect(table?.head).toEqual(['what', 'A', 'B', 'C']);
  const row = (what: RegExp): readonly string[] => table?.rows.find(([text]) => what.test(text ?? ''))?.slice(1) ?? [];
  // 8 GiB of RAM, less dom0's and what guests gave; in B and C the tables that the mediator reads.
  const beyond = row(/^frames it reaches beyond/).map((text) => Number.parseInt(text.replaceAll(',', ''), 10));
  expect(beyond[0]).toBeGreaterThan(1_900_000);
  expect(beyond.slice(1)).toEqual([9, 9]);
  expect(row(/^a write that names a known frame/)).toEqual(Array(3).fill('1 ioreq, nothing'));
  expect(row(/^a new frame/)).toEqual([
    'hypercalls: 1',
    'hypercalls: 1, I/O entries: 1',
    'hypercalls: 1, I/O entries: 1, p2m entries: 1',
  ]);
  expect(row(/^invariants broken/)).toEqual(['noGpuReachIntoFreedFrame', 'none', 'none']);
});

it('is left out where a run plays one design only, or none', () => {
  for (const file of ['pv-iommu-batch', 'sriov-no-shadow', 'pod-gpu-dma']) {
    expect(
      resultsOf(file).every(({ explanation }) => explanation.length === 0),
      file,
    ).toBe(true);
  }
});
