// Xen's command line option `rmrr=`: reserved regions that firmware forgot to list.
//   rmrr=start[-end]=[seg:]bus:dev.fn[,…][;…]      frames in hex
// Owns the syntax and the limits; a bad region is said and left out, as Xen does. No host state.
import { parseSbdf, type Sbdf, sbdf } from '../../frames/addresses.ts';
import type { RmrrConfig } from '../../host-config.ts';

const MAX_REGIONS = 10;
const MAX_PAGES = 16;
const MAX_DEVICES = 20;

const hex = (n: number): string => n.toString(16);
const rangeText = ({ startPfn, endPfn }: RmrrConfig): string => `[${hex(startPfn)}-${hex(endPfn)}]`;

/** The regions of the option, in its order; reading stops at the first that is no region at all (as Xen's parser). */
export function parseRmrrOption(option: string): RmrrConfig[] {
  const regions: RmrrConfig[] = [];
  for (const text of option.split(';').slice(0, MAX_REGIONS)) {
    const match = /^(?:0x)?([0-9a-f]{1,12})(?:-(?:0x)?([0-9a-f]{1,12}))?=(.+)$/i.exec(text.trim());
    const devices = match ? parseDevices(match[3] as string) : null; // the group matched
    if (!match || devices === null) break;
    const startPfn = Number.parseInt(match[1] as string, 16); // as above
    const endPfn = match[2] === undefined ? startPfn : Number.parseInt(match[2], 16);
    regions.push({ startPfn, endPfn, devices });
  }
  return regions;
}

/** A segment that is not given is that of the first device. */
function parseDevices(text: string): Sbdf[] | null {
  const devices: Sbdf[] = [];
  let segment = 0;
  for (const part of text.split(',').slice(0, MAX_DEVICES)) {
    const parsed = parseSbdf(part.trim());
    if (parsed === null) return null;
    const given = part.split(':').length === 3;
    if (given && devices.length === 0) segment = Math.floor(parsed / 65536);
    devices.push(given ? parsed : ((sbdf(segment, 0, 0, 0) + (parsed % 65536)) as Sbdf)); // a segment and a bdf make an Sbdf
  }
  return devices;
}

/** What Xen says of one region of the option; `accepted`: it goes on as firmware's would. */
export function checkUserRegion(
  region: RmrrConfig,
  known: readonly RmrrConfig[],
  frames: number,
): { readonly accepted: boolean; readonly line: string } {
  const range = rangeText(region);
  const refused = (line: string) => ({ accepted: false, line: `[VT-D]${line}` });
  if (region.startPfn > region.endPfn) return refused(`Invalid RMRR Range ${range}`);
  if (region.endPfn - region.startPfn >= MAX_PAGES) return refused(`RMRR range ${range} exceeds ${MAX_PAGES} pages`);
  const other = known.find((one) => region.startPfn <= one.endPfn && one.startPfn <= region.endPfn);
  if (other) return refused(`Overlapping RMRRs: ${range} and ${rangeText(other)}`);
  if (region.endPfn >= frames) return refused(`Invalid pfn in RMRR range ${range}`);
  const { devices } = region;
  const first = devices[0] ?? 0;
  const segment = (device: number): number => Math.floor(device / 65536);
  if (devices.some((device) => segment(device) !== segment(first))) {
    return refused(`Segments are not equal for RMRR range ${range}`);
  }
  return {
    accepted: true,
    line: `[VT-D]Adding RMRR for ${devices.length} device ([0]: 0x${hex(first)}) range ${range}`,
  };
}
