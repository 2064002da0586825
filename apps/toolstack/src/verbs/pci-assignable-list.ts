// xl pci-assignable-list: devices that wait for a guest.
import { formatPciAssignableList } from '#formats/xl-output';
import { readArguments } from './arguments.ts';
import { printed, type Verb } from './verb.ts';

export const pciAssignableList: Verb = async (xl, args) => {
  readArguments('pci-assignable-list', args, 0, { n: 'show-names' });
  const devices = await xl.domains.run('assignableDevices', []);
  return printed(formatPciAssignableList(devices.map(({ sbdf }) => sbdf)));
};
