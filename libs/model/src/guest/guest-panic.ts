// A guest kernel that stops itself: Linux's BUG() and panic(). Thrown out of whatever task found it; the kernel then tells
// the hypervisor that it crashed and runs nothing more. The host goes on.

export class GuestPanic extends Error {
  override readonly name = 'GuestPanic';
}
