// PCI_SPEC_STRING, the entries of pci= and of xl pci-attach: a device by address or name, its virtual slot, its options.
// As xlu_pci_parse_spec_string, sscanf's tolerance included. Whether the device exists is not asked here.

import { type Sbdf, sbdf } from '../frames/addresses.ts';
import type { RdmPolicy } from './construct-rdm.ts';
import { atoiIsTrue, scanHex } from './long.ts';
import { ERROR_FAIL, ERROR_INVAL } from './passthrough-policy.ts';
import { rdmPolicyFromString } from './rdm-spec.ts';

/** vfunc_mask of `BB:DD.*`: all functions. */
export const PCI_FUNC_ALL = 0xffffffff;

export interface PciDevice {
  readonly domain: number;
  readonly bus: number;
  readonly dev: number;
  readonly func: number;
  /** Virtual slot << 3; 0: any. */
  readonly vdevfn: number;
  /** 1, or PCI_FUNC_ALL; 0 for a device given by name. */
  readonly vfuncMask: number;
  readonly msitranslate: boolean;
  readonly powerMgmt: boolean;
  readonly permissive: boolean;
  readonly seize: boolean;
  /** `invalid`: not given; libxl takes it as strict. */
  readonly rdmPolicy: RdmPolicy;
  readonly name: string | null;
}

export type PciSpec =
  | { readonly ok: true; readonly pci: PciDevice }
  | { readonly ok: false; readonly rc: number; readonly report?: string };

export const pciDeviceDefaults: PciDevice = {
  domain: 0,
  bus: 0,
  dev: 0,
  func: 0,
  vdevfn: 0,
  vfuncMask: 0,
  msitranslate: false,
  powerMgmt: false,
  permissive: false,
  seize: false,
  rdmPolicy: 'invalid',
  name: null,
};

export const pciSbdf = (pci: PciDevice): Sbdf => sbdf(pci.domain, pci.bus, pci.dev, pci.func);

type Address = Pick<PciDevice, 'domain' | 'bus' | 'dev' | 'func' | 'vfuncMask'>;
interface Scanned<T> {
  readonly value: T;
  readonly rest: string;
}

/** sscanf("%x:%x.") of `count` numbers: separators between them, a dot after the last. */
function scanNumbers(text: string, count: number): Scanned<number[]> | null {
  const value: number[] = [];
  let rest = text;
  while (value.length < count) {
    const number = scanHex(rest);
    if (number === null) return null;
    value.push(number.value);
    rest = rest.slice(number.length);
    const separator = value.length === count ? '.' : ':';
    if (!rest.startsWith(separator)) return null;
    rest = rest.slice(1);
  }
  return { value, rest };
}

function scanAddress(text: string): Scanned<Address> | null {
  // Only the leading hex digits and colons are counted: a blank or 0x in front makes it no address.
  const colons = (/^[0-9a-fA-F:]*/.exec(text)?.[0] ?? '').split(':').length - 1;
  if (colons !== 1 && colons !== 2) return null;
  const numbers = scanNumbers(text, colons + 1);
  if (numbers === null) return null;
  const [domain = 0, bus = 0, dev = 0] = colons === 2 ? numbers.value : [0, ...numbers.value];
  if (domain > 0xffff || bus > 0xff || dev > 0x1f) return null;
  if (numbers.rest.startsWith('*')) {
    return { value: { domain, bus, dev, func: 0, vfuncMask: PCI_FUNC_ALL }, rest: numbers.rest.slice(1) };
  }
  const func = scanHex(numbers.rest);
  if (func === null || func.value > 7) return null;
  return { value: { domain, bus, dev, func: func.value, vfuncMask: 1 }, rest: numbers.rest.slice(func.length) };
}

function scanVslot(text: string): Scanned<number> | null {
  const slot = scanHex(text);
  return slot === null || slot.value > 0x1f ? null : { value: slot.value << 3, rest: text.slice(slot.length) };
}

type Options = { -readonly [K in keyof PciDevice]?: PciDevice[K] };
type OptionResult = { readonly set: Options } | { readonly rc: number; readonly report?: string };

function readOption(key: string, value: string): OptionResult {
  switch (key) {
    case 'bdf': {
      const address = scanAddress(value);
      return address === null ? { rc: ERROR_INVAL } : { set: address.value };
    }
    case 'vslot': {
      const slot = scanVslot(value);
      return slot === null ? { rc: ERROR_INVAL } : { set: { vdevfn: slot.value } };
    }
    case 'permissive':
      return { set: { permissive: atoiIsTrue(value) } };
    case 'msitranslate':
      return { set: { msitranslate: atoiIsTrue(value) } };
    case 'seize':
      return { set: { seize: atoiIsTrue(value) } };
    case 'power_mgmt':
      return { set: { powerMgmt: atoiIsTrue(value) } };
    case 'rdm_policy': {
      const rdmPolicy = rdmPolicyFromString(value);
      return rdmPolicy === null ? { rc: ERROR_FAIL, report: `Unknown RDM policy: ${value}` } : { set: { rdmPolicy } };
    }
    case 'name':
      return { set: { name: value } };
    default:
      return { rc: ERROR_INVAL, report: `Unknown PCI_SPEC_STRING option: ${key}` };
  }
}

const refused = (rc: number, report?: string): PciSpec => ({
  ok: false,
  rc,
  ...(report === undefined ? {} : { report }),
});

/** `defaults`: what the global keys (pci_permissive and others, rdm) have set before. */
export function parsePciSpec(spec: string, defaults: PciDevice = pciDeviceDefaults): PciSpec {
  let pci: PciDevice = defaults;
  let rest = spec;
  const positional = scanAddress(spec);
  let hasAddress = positional !== null;
  let hasName = false;
  if (positional !== null) {
    pci = { ...pci, ...positional.value };
    rest = positional.rest;
    if (rest.startsWith('@')) {
      const slot = scanVslot(rest.slice(1));
      if (slot === null) return refused(ERROR_INVAL);
      pci = { ...pci, vdevfn: slot.value };
      rest = slot.rest;
    }
    if (rest !== '' && !rest.startsWith(',')) return refused(ERROR_INVAL);
    rest = rest.slice(1);
  }
  while (rest !== '') {
    const equals = rest.indexOf('=');
    if (equals < 0) return refused(ERROR_INVAL);
    const key = rest.slice(0, equals);
    const comma = rest.indexOf(',', equals + 1);
    const option = readOption(key, rest.slice(equals + 1, comma < 0 ? undefined : comma));
    if ('rc' in option) return refused(option.rc, option.report);
    pci = { ...pci, ...option.set };
    hasAddress ||= key === 'bdf';
    hasName ||= key === 'name';
    rest = comma < 0 ? '' : rest.slice(comma + 1);
  }
  return hasAddress === hasName ? refused(ERROR_INVAL) : { ok: true, pci };
}
