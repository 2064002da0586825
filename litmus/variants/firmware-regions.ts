// What was kept of firmware's reserved ranges of a device before XSA-378: one range, which grows by every further one.
import type { RmrrConfig } from '#model/host-config';

export function keptAsOneRange(declared: readonly RmrrConfig[]): RmrrConfig[] {
  const [first, ...others] = declared;
  if (first === undefined) return [];
  const grown = others.reduce<Pick<RmrrConfig, 'startPfn' | 'endPfn'>>(
    (all, { startPfn, endPfn }) => ({
      startPfn: Math.min(all.startPfn, startPfn),
      endPfn: Math.max(all.endPfn, endPfn),
    }),
    first,
  );
  return [{ ...grown, devices: first.devices }];
}
