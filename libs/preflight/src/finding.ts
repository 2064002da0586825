// The registry of what preflight can find: stable codes, how bad each usually is, and what it means. docs/preflight.md is made from
// it. Owns names and meanings; who finds them stands in the files of their subjects.

export type Severity = 'blocker' | 'warning' | 'info';

export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** `host`, `RMRR ad000000–af7fffff`, `device 00:02.0`, `guest win7-igd`. */
  readonly subject: string;
  readonly message: string;
  /** Numbers, places in tables, lines that are or will be printed. */
  readonly evidence: readonly string[];
  readonly remedy: string;
}

interface Meaning {
  /** How bad it usually is. */
  readonly severity: Severity;
  readonly meaning: string;
}

const blocker = (meaning: string): Meaning => ({ severity: 'blocker', meaning });
const warning = (meaning: string): Meaning => ({ severity: 'warning', meaning });
const info = (meaning: string): Meaning => ({ severity: 'info', meaning });

export const findingCodes = {
  // What was given
  'INPUT-ASSUMED': info('Something was not given or not told, and had to be assumed.'),
  'INPUT-COMPLAINT': warning('A parser met something it cannot read or that no system would accept.'),

  // Firmware's tables and the host
  'IOMMU-OFF': blocker('Xen would not use the IOMMU: there is none, or firmware’s table makes Xen give it up.'),
  'RMRR-BASE-ABOVE-LIMIT': blocker('A reserved region that ends before it begins.'),
  'RMRR-ZERO-PAGES': blocker('A reserved region of no page.'),
  'RMRR-BASE-UNALIGNED': warning('A reserved region that begins inside a page.'),
  'RMRR-LIMIT-UNALIGNED': warning('A reserved region that ends inside a page.'),
  'RMRR-BELOW-1M': warning('A reserved region where every guest has RAM and firmware.'),
  'RMRR-ABOVE-4G': warning('A reserved region above 4 GiB, where large guests have RAM.'),
  'RMRR-BEYOND-HOST-WIDTH': blocker('A reserved region beyond the addresses the host has.'),
  'RMRR-SHARED': info('A reserved region of several devices: Xen assigns none of them unless relaxed.'),
  'RMRR-DUPLICATE': blocker('The same reserved region twice.'),
  'RMRR-OVERLAP': blocker('Reserved regions that overlap.'),
  'RMRR-NO-DEVICE': warning('A reserved region for no device.'),
  'RMRR-SEGMENT': info('A reserved region of another PCI segment than 0.'),
  'RMRR-NOT-RESERVED': warning('A reserved region that the host’s map does not (entirely) reserve.'),
  'RMRR-IN-RAM': blocker('A reserved region over RAM of the host.'),
  'RMRR-DEVICE-ABSENT': info('A reserved region names a device that the machine does not list.'),
  'RMRR-PATH-UNRESOLVED': warning(
    'A reserved region names its device by a path over bridges that nothing given resolves.',
  ),
  'RMRR-OWNER-UNKNOWN': warning('Reserved regions are known, but not for which devices.'),
  'RMRR-SCOPE-INCOMPLETE': warning('A reserved region names some functions of a card and not the others.'),
  'IVMD-ZERO-BYTES': warning('An IVMD of no byte.'),
  'IVMD-BEYOND-HOST-WIDTH': blocker('An IVMD beyond the addresses the host has.'),
  'IVMD-UNALIGNED': info('An IVMD that is not whole pages.'),
  'IVMD-IN-RAM': blocker('An IVMD over RAM of the host.'),
  'IVMD-NOT-RESERVED': warning('An IVMD that the host’s map does not (entirely) reserve.'),
  'IVMD-WIDE': info('An IVMD for all devices of a range of buses: each of them carries it into its guest.'),
  'TABLES-SEPARATE': info('CPU and IOMMU have tables of their own on this host.'),

  // Devices
  'DEVICE-UNKNOWN': blocker('A guest is to get a device that the machine does not have.'),
  'DEVICE-GUESSED': warning('A guest is to get a device about which nothing is known but its address.'),
  'DEVICE-BRIDGE': blocker('A guest is to get a bridge.'),
  'DEVICE-CLASS-0680': blocker('hvmloader dies when it meets a device of class 0680 that is not its own.'),
  'DEVICE-NO-FLR': info('The device cannot be reset by itself.'),
  'DEVICE-GROUP': warning('Other devices of the same group stay outside the guest.'),
  'DEVICE-BEHIND-PCI-BRIDGE': warning('Requests of the device carry the bridge’s address.'),
  'DEVICE-PAGE-SHARED': warning(
    'A BAR shares its page on the host with another device’s: who has one reaches the other.',
  ),
  'DEVICE-TWICE': blocker('Two guests are to get the same device.'),
  'RMRR-SHARED-STRICT': blocker(
    'Assigning the device will be refused: its reserved region is shared and the policy strict.',
  ),
  'RMRR-SHARED-RELAXED': warning('The device shares its reserved region, and the policy lets it go.'),
  'RMRR-SHARED-SPLIT': warning('Devices of one reserved region go to different guests.'),
  'RMRR-IDENTITY-BUSY': blocker('Pages of the reserved region are taken in the guest when the device comes.'),

  // Guests
  'CFG-ERROR': blocker('xl refuses the configuration.'),
  'CFG-WARNING': warning('xl warns about the configuration.'),
  'RDM-STRING-DROPPED': warning('xl drops a valid rdm= with a policy, without a word.'),
  'LIBXL-REFUSED': blocker('libxl refuses to create the guest.'),
  'RDM-CONFLICT': blocker('Guest RAM would lie over a reserved region, and the policy is strict.'),
  'RDM-IGNORED': warning('Guest RAM lies over a reserved region, and the policy is relaxed.'),
  'FIRMWARE-CRASH': blocker('hvmloader dies while it sets the guest up.'),
  'BAR-NO-SPACE': blocker('hvmloader finds no room for a BAR.'),
  'BAR-OVER-RESERVED': warning('A BAR lies over a reserved region: above 4 GiB hvmloader does not look.'),
  'BAR-UNKNOWN': warning('The BARs of a device are not known, so their room was not planned.'),
  'GUEST-SLOT-NONE': blocker('The guest’s PCI bus has no slot left.'),
  'HOST-MEMORY-SHORT': warning('The host has less free memory than the guests need.'),

  // Memory
  'POD-REFUSED': blocker('A guest below its maximum is to have a device.'),
  'POD-CAN-DIE': warning('The guest dies if it touches more memory than it has before its balloon has shrunk it.'),
  'BALLOON-REBOOT-REFUSED': info('Ballooned down and rebooted, the guest would be refused.'),
} as const satisfies Readonly<Record<string, Meaning>>;

export type FindingCode = keyof typeof findingCodes;

/** Of another library's finding, whose code is the same in small letters. */
export function findingCode(code: string): FindingCode {
  const upper = code.toUpperCase();
  if (upper in findingCodes) return upper as FindingCode; // just looked up
  throw new Error(`no finding is called ${upper}`);
}

const ORDER: readonly Severity[] = ['blocker', 'warning', 'info'];

export const worstFirst = (findings: readonly Finding[]): Finding[] =>
  findings.toSorted((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));

/** 0 clean, 1 blocked, 3 warnings only. */
export function exitOf(findings: readonly Finding[]): 0 | 1 | 3 {
  if (findings.some(({ severity }) => severity === 'blocker')) return 1;
  return findings.some(({ severity }) => severity === 'warning') ? 3 : 0;
}
