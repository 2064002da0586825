// What the tables' inspection takes from other files of the same machine: its memory map, its bridges. A file that has neither is
// a mistake, not an empty answer.
import { type SecondaryBuses, secondaryBusesOf } from '#formats/acpi/scope-path';
import { parseLspci } from '#formats/lspci';
import { type MapEntry, parseMemoryMapLog } from '#formats/memory-map-log/memory-map-log';
import { OperatorError } from '#formats/operator-error';
import { type InspectedFile, textOf } from './inspector.ts';

export function hostMapOf(dmesg: InspectedFile): readonly MapEntry[] {
  const { map } = parseMemoryMapLog(textOf(dmesg));
  if (map.length > 0) return map;
  throw new OperatorError([
    {
      file: dmesg.name,
      message: 'no line of a memory map',
      remedy: 'give the boot messages from their beginning: `dmesg`, `journalctl -k`, `xl dmesg` or a serial log',
    },
  ]);
}

export function bridgesOf(lspci: InspectedFile): SecondaryBuses {
  const { devices } = parseLspci(textOf(lspci));
  if (devices.length > 0) return secondaryBusesOf(devices);
  throw new OperatorError([
    {
      file: lspci.name,
      message: 'no device: none of its lines begins with an address such as 00:02.0',
      remedy: 'give the output of `lspci -vvv` (as root, so that the capabilities are shown)',
    },
  ]);
}
