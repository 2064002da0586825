// xenstore as a plain map, for a host in one thread: no watches, no transactions, no rights.
import type { Xenstore } from './ports.ts';

export class MapXenstore implements Xenstore {
  /** By domain and path, `N/path`. */
  readonly nodes = new Map<string, string>();

  read(domid: number, path: string): string | null {
    return this.nodes.get(`${domid}/${path}`) ?? null;
  }

  write(domid: number, path: string, value: string): void {
    this.nodes.set(`${domid}/${path}`, value);
  }

  remove(domid: number, path: string): void {
    const node = `${domid}/${path}`;
    for (const key of [...this.nodes.keys()]) if (key === node || key.startsWith(`${node}/`)) this.nodes.delete(key);
  }

  list(domid: number, path: string): readonly string[] {
    const prefix = `${domid}/${path}/`;
    const below = [...this.nodes.keys()].filter((key) => key.startsWith(prefix));
    return [...new Set(below.map((key) => key.slice(prefix.length).split('/')[0] ?? ''))].sort();
  }

  removeDomain(domid: number): void {
    for (const key of [...this.nodes.keys()]) if (key.startsWith(`${domid}/`)) this.nodes.delete(key);
  }
}
