// What would keep a device from faulting on a page, by what the p2m held there: the knob of the host, or what a guest's
// configuration would say. The cause itself is the hypervisor's sentence.

export interface Remedy {
  readonly text: string;
  readonly knob?: string;
}

export function remedyOf(p2mType: string, shared: boolean): Remedy | null {
  switch (p2mType) {
    case 'populateOnDemand':
      return {
        text: 'Give the guest all its memory at once (memory equal to maxmem), or let Xen populate every page before a device is assigned:',
        knob: 'pod-with-passthrough: populate-first',
      };
    case 'mmioDm':
    case 'invalid':
      return {
        text: 'Keep the driver from addresses beyond its RAM, and the guest from ballooning pages out that a device still has:',
        knob: 'maxmem equal to memory, no mem-set',
      };
    case 'ramRw':
      return shared
        ? {
            text: 'The entry was away for a moment: split superpages in one store, and flush before the call returns:',
            knob: 'shatter: atomic',
          }
        : { text: 'Map what the p2m holds for the device as well, or walk one table:', knob: 'iommu.tables: shared' };
    case 'mmioDirect':
      return { text: 'Another device’s registers are mapped for devices only where their domain may use them.' };
    default:
      return null;
  }
}
