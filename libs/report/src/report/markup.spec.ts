import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytes, duration, escapeText, html, instant, plural, prose } from './markup.ts';

describe('escaping', () => {
  test('no text can open a tag, an attribute or an entity', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(escapeText(text)).not.toMatch(/[<>"']|&(?!(?:amp|lt|gt|quot|#39);)/);
      }),
    );
  });

  test('characters that hide or reorder text are shown, and a broken surrogate does not break the page', () => {
    expect(escapeText('a\u0000b\u001b[31m\u007f\u202egnp.exe\u200b')).toBe('a␀b␛[31m␡[U+202E]gnp.exe[U+200B]');
    expect(escapeText('x\ud800y')).toBe('x\ufffdy');
    expect(escapeText('two\nlines\tand a tab')).toBe('two\nlines\tand a tab');
  });

  test('the template escapes values, keeps its own pieces and leaves out absent ones', () => {
    const inner = html`<b>${'<i>'}</b>`;
    expect(html`<p title="${'"x"'}">${inner}${[1, null, undefined, false, ' & ']}</p>`.text).toBe(
      '<p title="&quot;x&quot;"><b>&lt;i&gt;</b>1 &amp; </p>',
    );
  });

  test('text between backticks is code, and escaped all the same', () => {
    expect(html`${prose('gfn `7d0d6<` is')}`.text).toBe('gfn <code>7d0d6&lt;</code> is');
  });
});

test('sizes are exact while that is short, times have few digits, points in time all of them', () => {
  expect([0, 512, 4096, 2047 * 2 ** 20, 2 ** 31, 1.5 * 2 ** 40, 63.93 * 2 ** 20].map(bytes)).toEqual([
    '0 B',
    '512 B',
    '4 KiB',
    '2047 MiB',
    '2 GiB',
    '1536 GiB',
    '63.93 MiB',
  ]);
  expect([0, 1.234, 999, 1500, 250_000, 18_400_000].map(duration)).toEqual([
    '0 µs',
    '1.23 µs',
    '999 µs',
    '1.5 ms',
    '250 ms',
    '18.4 s',
  ]);
  expect(instant(8_412_310)).toBe('8.412310 s');
  expect([plural(1, 'fault'), plural(2000, 'fault')]).toEqual(['1 fault', '2,000 faults']);
});
