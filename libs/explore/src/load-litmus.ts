// Loads a litmus test by its path, wherever it lies: its imports of #explore and #model are this package's.
import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';
import type { Litmus } from './litmus.ts';

let hooked = false;

/** A test outside the clone has no package of its own that knows these names. */
function joinImports(): void {
  if (hooked) return;
  hooked = true;
  registerHooks({
    resolve: (specifier, context, next) =>
      /^#(explore|model)\//.test(specifier)
        ? next(specifier, { ...context, parentURL: import.meta.url })
        : next(specifier, context),
  });
}

export async function loadLitmus(path: string): Promise<Litmus> {
  joinImports();
  const module = (await import(pathToFileURL(path).href)) as { readonly default?: Litmus };
  if (module.default === undefined) throw new Error(`${path} has no default export`);
  return module.default;
}
