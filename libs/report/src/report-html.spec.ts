import { describe, expect, test } from 'vitest';
import { differingKnobs, outcomeWords, summarySentence } from './report/comparison.ts';
import { selectEvents } from './report/timeline.ts';
import { renderReport } from './report-html.ts';
import type { RunResult, TwinResult } from './verdict.ts';

/** A twin in which every text is `text` and every part of the report has something to show. */
function twin(text: string, over: Partial<TwinResult> = {}): TwinResult {
  return {
    name: text,
    title: text,
    kind: 'buggy',
    policies: { [text]: text, 'iommu.tables': 'separate' },
    attempts: 200,
    verdict: 'pass',
    assertions: [
      { text, expected: text, found: text, ok: true, evidence: text },
      { text, expected: text, found: text, ok: false },
      { text, expected: text, found: text, ok: 'unknown' },
    ],
    violations: [{ invariant: text, count: 3, first: { text, tsUs: 8_412_300, evidence: text } }],
    faults: Array.from({ length: 12 }, (_, i) => ({
      tsUs: 8_412_300 + i,
      sbdf: 0x0100,
      domid: 3,
      dfn: 0x7d0d6 + (i % 5),
      reason: 5,
      text,
    })),
    faultCount: 214,
    counters: { [text]: 5, 'iommu.walks': 88_211 },
    explanation: [{ title: text, paragraphs: [text], tables: [{ caption: text, head: [text], rows: [[text]] }] }],
    e820: [
      { addr: 0, size: 0xa0000, type: 1 },
      { addr: 0x100000, size: 0x7ff00000, type: 1 },
    ],
    memoryMap: [
      { startGfn: 0, endGfn: 0x49c00, kind: 'ram', label: text },
      { startGfn: 0x49c00, endGfn: 0x80000, kind: 'pod', label: text },
      { startGfn: 0xad000, endGfn: 0xaf800, kind: 'rmrr', label: text },
    ],
    iommuMap: [{ startDfn: 0, endDfn: 0x49c00, mapped: true }],
    locks: [
      { scope: 'global', name: text, lockCnt: 5, blockCnt: 1, holdNs: 5000, blockNs: 100, inXen: true },
      { scope: 3, name: 'p2m', lockCnt: 5, blockCnt: 1, holdNs: 9000, blockNs: 4000, inXen: false },
    ],
    timeline: [
      { tsUs: 1, who: text, what: text, detail: text },
      { tsUs: 5, who: 'Xen', what: text, tone: 'bad' },
    ],
    durationMs: 3120,
    ...over,
  };
}

function run(text: string, twins: readonly TwinResult[] = [twin(text), twin(text, { kind: 'fixed' })]): RunResult {
  return {
    scenario: text,
    question: text,
    startedAt: text,
    host: { name: text, facts: { [text]: text } },
    verdict: 'pass',
    twins,
    durationMs: 18_400,
    command: text,
  };
}

/** The tags of a page with their attributes' names; what stands in the attributes is left out. */
const tags = (page: string): string[] =>
  (page.match(/<[^>]*>/g) ?? []).map((tag) => tag.replace(/="[^"]*"/g, '').replace(/\s+/g, ' '));

describe('a hostile guest', () => {
  const attacks = [
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '</style></title><svg onload=alert(1)>',
    '&lt;b&gt; --> ]]> {{x}}',
    '\u202e\u0000\ud800<!--',
  ];

  test.each(attacks)('cannot add a tag or an attribute by %j', (attack) => {
    expect(tags(renderReport(run(attack)))).toEqual(tags(renderReport(run('x'.repeat(attack.length)))));
  });

  test('finds no script and no outside resource to lean on', () => {
    const page = renderReport(run('plain'));
    expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'`);
    expect(page).not.toMatch(/<script|<link|<iframe|@import|url\((?!#)|src=|https?:/);
  });
});

describe('the report', () => {
  test('names the question, the verdict, the fault with its address, the E820 and the lock that real Xen lacks', () => {
    const page = renderReport(run('Does it fault?'));
    for (const part of [
      '✓ PASS',
      'fault addr 7d0d6000 ×3',
      '0000:01:00.0',
      'domain 3 lock p2m *',
      '[01]',
      '080000000',
    ]) {
      expect(page).toContain(part);
    }
    expect(page).toMatch(/<tr class="gap"><td><\/td><td class="mono">0000a0000/);
    expect(page).toContain('214 faults on 5 frames; the first 12 were kept, 202 later ones were only counted');
  });

  test('a run without twins, and a twin that recorded nothing, are still pages', () => {
    expect(renderReport({ ...run('q', []), verdict: 'unknown' })).toContain('No twin ran.');
    const { title: _t, e820: _e, memoryMap: _m, iommuMap: _i, ...rest } = twin('bare');
    const empty = {
      assertions: [],
      violations: [],
      faults: [],
      faultCount: 0,
      counters: {},
      explanation: [],
      policies: {},
    };
    const page = renderReport(run('q', [{ ...rest, ...empty, locks: [], timeline: [] }]));
    expect(page).toContain('No DMA fault.');
    expect(page).not.toMatch(/NaN|undefined|Infinity/);
  });

  test('thousands of segments, events and counters stay a readable size', () => {
    const big = twin('big', {
      memoryMap: Array.from({ length: 20_000 }, (_, i) => ({
        startGfn: i * 16,
        endGfn: i * 16 + 16,
        kind: i % 2 === 0 ? ('ram' as const) : ('pod' as const),
        label: 'x',
      })),
      iommuMap: Array.from({ length: 10_000 }, (_, i) => ({ startDfn: i * 32, endDfn: i * 32 + 16, mapped: true })),
      timeline: Array.from({ length: 5000 }, (_, i) => ({ tsUs: i, who: `d${i % 40}`, what: 'touch' })),
    });
    const page = renderReport(run('q', [big]));
    expect(page.length).toBeLessThan(600_000);
    expect(page).not.toMatch(/NaN|undefined|Infinity/);
  });

  test('only twins that need attention are unfolded', () => {
    const fixed = twin('f', { kind: 'fixed' });
    const page = renderReport(run('q', [twin('a'), twin('b'), fixed, { ...fixed, verdict: 'fail' }]));
    expect(page.match(/<details class="twin"( open)?>/g)).toEqual([
      '<details class="twin" open>',
      '<details class="twin">',
      '<details class="twin">',
      '<details class="twin" open>',
    ]);
  });
});

test('a buggy twin passes by breaking, and the summary says so', () => {
  expect(outcomeWords(twin('a'))).toBe('breaks, as expected');
  expect(outcomeWords(twin('a', { verdict: 'fail' }))).toBe('did not break as expected');
  expect(
    summarySentence([twin('a'), twin('b', { kind: 'fixed' }), twin('c', { kind: 'fixed', verdict: 'fail' })]),
  ).toBe('1 of 1 buggy twin broke as expected, 1 of 2 fixed twins held.');
});

test('the comparison shows just the knobs that differ', () => {
  const twins = [
    twin('a', { policies: { shatter: 'naive', x: '1' } }),
    twin('b', { policies: { shatter: 'atomic', x: '1' } }),
  ];
  expect(differingKnobs(twins)).toEqual(['shatter']);
});

test('a long timeline keeps its beginning, its end and the first bad events, in order and under their own numbers', () => {
  const events = Array.from({ length: 500 }, (_, i) => ({
    tsUs: 500 - i,
    who: 'd1',
    what: `${i}`,
    ...(i % 100 === 50 ? { tone: 'bad' as const } : {}),
  }));
  const indices = selectEvents(events).map(({ index }) => index);
  expect(indices).toHaveLength(22 + 5 + 8);
  expect(indices.slice(0, 2)).toEqual([0, 1]);
  expect(indices.slice(22, 27)).toEqual([49, 149, 249, 349, 449]);
  expect(indices.at(-1)).toBe(499);
});
