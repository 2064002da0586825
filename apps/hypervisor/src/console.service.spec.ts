import { describe, expect, it, vi } from 'vitest';
import { ConsoleService } from './console.service.ts';

describe('the console', () => {
  it('prints lines in the order in which they were printed, whichever thread delivers first', () => {
    const service = new ConsoleService();
    const seen: string[] = [];
    service.onLines((lines) => seen.push(...lines));
    service.take([[1, 'second']]);
    expect(seen).toEqual([]);
    service.take([
      [2, 'third'],
      [0, 'first'],
    ]);
    expect(seen).toEqual(['(XEN) first', '(XEN) second', '(XEN) third']);
  });

  it('does not hold lines back for ever when one is missing', () => {
    vi.useFakeTimers();
    try {
      const service = new ConsoleService();
      service.take([[5, 'late thread holds 0 to 4']]);
      expect(service.read(0).text).toBe('');
      vi.advanceTimersByTime(250);
      expect(service.read(0).text).toBe('(XEN) late thread holds 0 to 4\n');
      service.take([[0, 'and here they come']]);
      vi.advanceTimersByTime(250);
      expect(service.read(0).text).toContain('(XEN) and here they come\n');
    } finally {
      vi.useRealTimers();
    }
  });

  it('is read on from where the last read ended', () => {
    const service = new ConsoleService();
    service.take([[0, 'one']]);
    const first = service.read(0);
    service.take([[1, 'two']]);
    expect(service.read(first.next).text).toBe('(XEN) two\n');
    expect(service.read(10_000).text).toBe('');
  });
});
