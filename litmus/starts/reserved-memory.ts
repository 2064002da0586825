// A machine whose NIC has reserved memory (an RMRR): frames that firmware goes on using whoever owns the device.
import { GPU, type Machine, NIC } from '#explore/machine';
import type { Setup } from '#explore/world';
import { quarantineInit } from '#model/iommu/quarantine';

/** Beyond the machine's RAM. */
export const RESERVED = 4200;

/** RAM close to it, so that the tables of a guest are there already and the traces short. */
export const NEIGHBOUR = { gfn: RESERVED + 16, pages: 2 } as const;

/** One page of it. */
export const reservedPage: Machine = { rmrrs: [{ startPfn: RESERVED, endPfn: RESERVED, devices: [NIC] }] };

/** Two pages of it. */
export const reservedPages: Machine = { rmrrs: [{ startPfn: RESERVED, endPfn: RESERVED + 1, devices: [NIC] }] };

/** The tables that the NIC will have in quarantine are made at its first assignment: here before the actors begin. */
export const prepareQuarantine = (s: Setup): number => quarantineInit(s.host, s.host.iommu.deviceIndex(NIC));

/** The address of the function that `phantomNic` uses besides its own. */
const PHANTOM_STRIDE = 4;

/** A NIC that sends its requests under two addresses in turn. */
export const phantomNic: Machine = {
  devices: [NIC, GPU].map((sbdf) => ({
    sbdf,
    name: sbdf === NIC ? 'nic' : 'gpu',
    vendor: 0x8086,
    device: 1,
    pciClass: sbdf === NIC ? 0x020000 : 0x030000,
    unit: 0,
    upstreamBridge: null,
    bars: [],
    ...(sbdf === NIC ? { phantomStride: PHANTOM_STRIDE } : {}),
  })),
};
