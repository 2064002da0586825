import { describe, expect, it } from 'vitest';
import { type Experiment, experimentCharts, experimentMarkdown, renderExperiment } from './experiment-page.ts';
import { lineChart } from './report/line-chart.ts';

const chart = {
  title: 'Waits <by> batch',
  xAxis: 'extents',
  yAxis: 'µs',
  series: [
    {
      name: 'map',
      points: [
        { x: 1, y: 0.1 },
        { x: 64, y: 3 },
        { x: 16_384, y: 400 },
      ],
    },
    { name: 'none', points: [{ x: 1, y: 0 }] },
  ],
  bound: { y: 50, name: 'bound' },
  xNames: { 16384: 'whole' },
};

const page: Experiment = {
  name: 'lock-contention',
  question: 'Is it <reasonable>?',
  verdict: 'It depends.',
  answer: ['Not beyond `512` extents.'],
  command: 'hostloom bench lock-contention',
  facts: ['2 cores'],
  sections: [
    {
      heading: 'Waits',
      paragraphs: ['Of all.'],
      tables: [{ caption: 'p99', head: ['batch', 'µs'], rows: [['1|2', '3']] }],
      charts: [{ file: 'lock-contention.svg', chart }],
    },
  ],
};

describe('the page of an experiment', () => {
  it('says the same as HTML and as Markdown, with nothing of it taken for markup', () => {
    const text = renderExperiment(page);
    expect(text).toContain('Is it &lt;reasonable&gt;?');
    expect(text).toContain('<code>512</code>');
    expect(text).toContain('<svg');
    expect(text).not.toContain('<by>');
    const markdown = experimentMarkdown(page, 'generated');
    for (const part of [
      '# Is it <reasonable>?',
      '**It depends.**',
      'Not beyond `512` extents.',
      '| 1\\|2 | 3 |',
      '](lock-contention.svg)',
      '- 2 cores',
    ])
      expect(markdown).toContain(part);
    expect(experimentCharts(page).map(({ file }) => file)).toEqual(['lock-contention.svg']);
  });
});

describe('a line chart', () => {
  it('draws every point above zero, names and bound, and larger values higher up', () => {
    const text = lineChart(chart)?.text ?? '';
    const heights = [...text.matchAll(/<circle cx="[\d.]+" cy="([\d.]+)"/g)].map((m) => Number(m[1]));
    expect(heights).toHaveLength(3);
    expect(heights[0]).toBeGreaterThan(heights[1] as number);
    expect(heights[1]).toBeGreaterThan(heights[2] as number);
    expect(text).toContain('>whole<');
    expect(text).toContain('>bound<');
    expect(text).toContain('stroke-dasharray');
  });

  it('is nothing where there is nothing to draw', () => {
    expect(lineChart({ ...chart, series: [{ name: 'x', points: [{ x: 1, y: 0 }] }] })).toBeNull();
  });
});
