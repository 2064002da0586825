import { describe, expect, it } from 'vitest';
import { parseRdmSpec } from './rdm-spec.ts';

describe('the rdm= string', () => {
  it('reads strategy and policy as documented', () => {
    expect(parseRdmSpec('strategy=host,policy=Strict')).toEqual({ ok: true, strategy: 'host', policy: 'strict' });
    expect(parseRdmSpec('strategy=host')).toEqual({ ok: true, strategy: 'host', policy: 'invalid' });
  });

  it('a blank after the comma is part of the key, as in Xen', () => {
    expect(parseRdmSpec('strategy=host, policy=relaxed')).toMatchObject({
      ok: false,
      report: 'Unknown RDM state option:  policy',
    });
  });

  it('the bug-compatible switch refuses valid policies and takes unknown ones', () => {
    expect(parseRdmSpec('policy=strict', { bugCompatible: true }).ok).toBe(false);
    expect(parseRdmSpec('policy=what', { bugCompatible: true }).ok).toBe(true);
  });
});
