// Device scopes of a DMAR structure: which devices it speaks of, as paths from a start bus over bridges (VT-d specification 8.3.1).
// A path of several hops needs the bridges' secondary buses, which no table has: scope-path.ts resolves it.
import type { Section } from './section.ts';

export interface DeviceScope {
  readonly type: number;
  readonly kind: string;
  readonly length: number;
  /** The IOAPIC's, HPET's or ACPI device's number. */
  readonly enum_id: number;
  readonly start_bus: number;
  /** Device and function of each hop, as `1c.0`. */
  readonly path: readonly string[];
  /** What the platform asks of a device of this kind (SIDP); absent where nothing. */
  readonly flags?: number;
  /** null: over bridges. */
  readonly bdf: string | null;
}

const KINDS: Readonly<Record<number, string>> = { 1: 'endpoint', 2: 'bridge', 3: 'ioapic', 4: 'hpet', 5: 'namespace' };
const FIXED_LENGTH = 6;
const HOP_LENGTH = 2;

const byte = (value: number): string => value.toString(16).padStart(2, '0');

/** All scopes from `at` to the end of the structure. */
export function readDeviceScopes(structure: Section, at: number): DeviceScope[] {
  const scopes: DeviceScope[] = [];
  for (let next = at; next < structure.length; ) {
    const scope = readScope(structure, next);
    scopes.push(scope);
    next += scope.length;
  }
  return scopes;
}

function readScope(structure: Section, at: number): DeviceScope {
  const type = structure.u8(at, 'device_scope.type');
  const length = structure.u8(at + 1, 'device_scope.length');
  if (length < FIXED_LENGTH + HOP_LENGTH || length % HOP_LENGTH !== 0) {
    throw structure.fault(
      at + 1,
      'device_scope.length',
      `${length} bytes; a scope has ${FIXED_LENGTH} and ${HOP_LENGTH} for each hop of its path, at least one`,
      'the table is damaged: dump it again, or ask for newer firmware',
    );
  }
  const scope = structure.part(at, length, 'device_scope', 'device_scope.length');
  const flags = scope.u8(2, 'flags');
  const startBus = scope.u8(5, 'start_bus');
  const path: string[] = [];
  for (let hop = FIXED_LENGTH; hop < length; hop += HOP_LENGTH) {
    path.push(`${byte(scope.u8(hop, 'path.device'))}.${scope.u8(hop + 1, 'path.function').toString(16)}`);
  }
  return {
    type,
    kind: KINDS[type] ?? 'unknown',
    length,
    enum_id: scope.u8(4, 'enum_id'),
    start_bus: startBus,
    path,
    ...(flags === 0 ? {} : { flags }),
    bdf: path.length === 1 ? `${byte(startBus)}:${path[0]}` : null,
  };
}
