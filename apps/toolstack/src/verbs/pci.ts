// What the PCI verbs share: reading a device's address, each with xl's own sentence for one that it cannot read.
import { type PciDevice, parsePciSpec } from '#model/toolstack/pci-spec';
import { EXIT_WRONG_ARGUMENTS, XlFailure } from './verb.ts';

/** [DDDD:]BB:SS.F alone. */
const BDF = /^(?:[0-9a-f]{1,4}:)?[0-9a-f]{1,2}:[0-9a-f]{1,2}\.[0-7]$/i;

/** A device with its options, for a guest. Without names: no device has one here. */
export function readPciSpec(verb: string, text: string): PciDevice {
  const spec = parsePciSpec(text);
  if (spec.ok && spec.pci.name === null) return spec.pci;
  throw new XlFailure(`${verb}: malformed PCI_SPEC_STRING "${text}"`, EXIT_WRONG_ARGUMENTS);
}

/** A device of the host. `quote` is the sign that the verb puts around it. */
export function readBdf(verb: string, text: string, quote = '"'): PciDevice {
  const spec = BDF.test(text) ? parsePciSpec(text) : null;
  if (spec?.ok) return spec.pci;
  throw new XlFailure(`${verb}: malformed BDF ${quote}${text}${quote}`, EXIT_WRONG_ARGUMENTS);
}
