// What one access of a vCPU came to. Plain values: who decides them is ept-exits.ts and lending/lend-fault.ts.

/**
 * `emulated`: nothing is mapped there, the device model would answer (reads give all ones). `lendFault`: the page is lent and not
 * there now; the vCPU waits and tries again. `injected`: its lender has given it up, the guest gets a fault.
 */
export const accessResult = {
  ok: 0,
  emulated: 1,
  mmio: 2,
  discarded: 3,
  crashed: 4,
  lendFault: 5,
  injected: 6,
} as const;
