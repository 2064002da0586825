// Which device a scope's path leads to: each hop but the last is a bridge, and the next hop lies on that bridge's secondary bus.
// Buses are numbered by the firmware at boot, so they come from the running machine; a table alone cannot tell.
import { formatSbdf, parseSbdf, type Sbdf } from '#model/frames/addresses';
import type { DeviceScope } from './device-scope.ts';

/** Secondary bus of each bridge. */
export type SecondaryBuses = ReadonlyMap<Sbdf, number>;

/** From the bridges of an lspci listing: `bus` of its devices. */
export function secondaryBusesOf(
  devices: readonly { readonly bdf: string; readonly bus: { readonly secondary: string } | null }[],
): SecondaryBuses {
  const buses = new Map<Sbdf, number>();
  for (const { bdf, bus } of devices) {
    const sbdf = parseSbdf(bdf);
    if (sbdf !== null && bus !== null) buses.set(sbdf, Number.parseInt(bus.secondary, 16));
  }
  return buses;
}

export type ResolvedPath =
  | { readonly sbdf: Sbdf }
  /** The hop, as `0000:00:1c.0`, at which nothing more is known. */
  | { readonly unresolvedAt: string };

/** The device of `scope` in PCI segment `segment`. */
export function resolveScopePath(
  segment: number,
  scope: Pick<DeviceScope, 'start_bus' | 'path'>,
  secondaryBuses: SecondaryBuses,
): ResolvedPath {
  let bus = scope.start_bus;
  for (const [index, hop] of scope.path.entries()) {
    const text = `${segment.toString(16).padStart(4, '0')}:${bus.toString(16).padStart(2, '0')}:${hop}`;
    const sbdf = parseSbdf(text);
    if (sbdf === null) return { unresolvedAt: text };
    if (index === scope.path.length - 1) return { sbdf };
    const secondary = secondaryBuses.get(sbdf);
    // A bridge that was given no bus leads nowhere.
    if (secondary === undefined || secondary === 0) return { unresolvedAt: formatSbdf(sbdf) };
    bus = secondary;
  }
  return { unresolvedAt: `an empty path on bus ${bus}` };
}
