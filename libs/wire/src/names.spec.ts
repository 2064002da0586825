import { describe, expect, it } from 'vitest';
import { aclUser, callJobId, domainKeyPattern, hostPrefix, jobKey, vcpuKeyPattern, vcpuQueue } from './names.ts';

/** Redis' own glob, as far as these patterns use it. */
const matches = (pattern: string, key: string): boolean =>
  pattern.endsWith('*') ? key.startsWith(pattern.slice(0, -1)) : key === pattern;

describe('names', () => {
  it("patterns of domain 1 admit its own keys and none of domain 10's or 11's", () => {
    for (const pattern of [vcpuKeyPattern('h', 1), domainKeyPattern('h', 1)]) {
      expect(pattern.slice(0, -1)).not.toMatch(/[*?[\]\\]/);
      expect(matches(pattern, jobKey('h', vcpuQueue(10, 0), 'x'))).toBe(false);
      expect(matches(pattern, '{h}:d11:reply')).toBe(false);
    }
    expect(matches(vcpuKeyPattern('h', 1), jobKey('h', vcpuQueue(1, 12), 'x'))).toBe(true);
  });

  it('a host id that would mean something in a pattern or a slot is refused', () => {
    for (const bad of ['', 'a*', 'a}b', '{a', 'a b', 'a:b', '[a]']) expect(() => hostPrefix(bad)).toThrow(/host id/);
  });

  it('a job id is not an integer and has no colon', () => {
    expect(callJobId('0a', 1, 1)).toBe('e0a-i1-s1');
  });

  it('each incarnation has users of its own', () => {
    const users = [1, 2].flatMap((i) => [aclUser('h', 1, i, 'guest'), aclUser('h', 1, i, 'worker')]);
    expect(new Set(users).size).toBe(4);
    for (const user of users) expect(user).not.toMatch(/\s/);
  });
});
