// What the PCI verbs share: reading a device's address.
import { type PciDevice, parsePciSpec } from '#model/toolstack/pci-spec';
import { wrongArguments, XlFailure } from './verb.ts';

export function readPci(text: string | undefined, usage: string): PciDevice {
  if (text === undefined) throw wrongArguments(usage);
  const spec = parsePciSpec(text);
  if (spec.ok && spec.pci.name === null) return spec.pci;
  throw new XlFailure(`xl: unable to parse PCI_SPEC_STRING '${text}': write [DDDD:]BB:SS.F, for example 01:00.0`);
}
