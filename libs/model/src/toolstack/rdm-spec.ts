// The rdm= string: strategy and policy for reserved device memory. As xl.cfg(5) documents it; Xen's own parser at the
// reference commit has a test inverted (any valid policy fails, an unknown word passes), which `bugCompatible` reproduces.

import type { RdmPolicy, RdmStrategy } from './construct-rdm.ts';
import { ERROR_INVAL } from './passthrough-policy.ts';

/** `report`: what the parser prints; with bugCompatible also beside success. */
export type RdmSpec =
  | { readonly ok: true; readonly strategy: RdmStrategy; readonly policy: RdmPolicy; readonly report?: string }
  | { readonly ok: false; readonly rc: number; readonly report?: string };

/** Names of libxl_rdm_reserve_policy, in any case. */
export function rdmPolicyFromString(text: string): RdmPolicy | null {
  const name = text.toLowerCase();
  return name === 'strict' || name === 'relaxed' || name === 'invalid' ? name : null;
}

export function parseRdmSpec(
  spec: string,
  options: { readonly bugCompatible: boolean } = { bugCompatible: false },
): RdmSpec {
  let strategy: RdmStrategy = 'ignore';
  let policy: RdmPolicy = 'invalid';
  let report = '';
  const withReport = <T extends object>(result: T): T & { report?: string } =>
    report === '' ? result : { ...result, report };
  const fail = (why = ''): RdmSpec => {
    report += why; // Xen's messages have no line end: several run together
    return withReport({ ok: false, rc: ERROR_INVAL });
  };

  let rest = spec;
  for (;;) {
    const equals = rest.indexOf('=');
    if (equals < 0) return fail();
    const key = rest.slice(0, equals);
    if (key !== 'strategy' && key !== 'policy') return fail(`Unknown RDM state option: ${key}`);
    const comma = rest.indexOf(',', equals + 1);
    const value = rest.slice(equals + 1, comma < 0 ? undefined : comma);
    if (key === 'strategy') {
      if (value !== 'host') return fail(`Unknown RDM strategy option: ${value}`);
      strategy = 'host';
    } else {
      const known = rdmPolicyFromString(value);
      if (known === null) report += `Unknown RDM policy: ${value}`;
      else policy = known;
      if ((known === null) !== options.bugCompatible) return fail();
    }
    if (comma < 0) break;
    rest = rest.slice(comma + 1);
  }
  return withReport({ ok: true, strategy, policy });
}
