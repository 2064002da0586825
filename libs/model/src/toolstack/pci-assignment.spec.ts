import { expect, it } from 'vitest';
import { sbdf } from '../frames/addresses.ts';
import type { DeviceConfig } from '../host-config.ts';
import { guestPciDevices } from './pci-assignment.ts';
import { pciDeviceDefaults } from './pci-spec.ts';

const GPU = sbdf(0, 1, 0, 0);
const device: DeviceConfig = {
  sbdf: GPU,
  name: 'gpu',
  vendor: 0x10de,
  device: 0x1c20,
  pciClass: 0x030000,
  unit: 0,
  upstreamBridge: null,
  bars: [
    { index: 0, size: 2 ** 24, kind: 'mem32', hostAddr: 0xde000000 },
    { index: 1, size: 2 ** 28, kind: 'mem64p', hostAddr: 0xc0000000 },
    { index: 5, size: 128, kind: 'io', hostAddr: 0xe000 },
    { index: 'rom', size: 2 ** 19, kind: 'rom', hostAddr: 0xdf000000 },
  ],
};

it('a guest finds its device’s memory windows where firmware put them, and one that got no place without an address', () => {
  const windows = [{ bar: 0, gfn: 0xf5000, mfn: 0xde000, pages: 4096 }];
  const attached = { pci: pciDeviceDefaults, sbdf: GPU, windows };
  expect(guestPciDevices([device], [attached])).toEqual([
    {
      device: GPU,
      windows: [
        { bar: 0, gfn: 0xf5000, pages: 4096 },
        { bar: 1, gfn: null, pages: 65_536 },
      ],
    },
  ]);
});
