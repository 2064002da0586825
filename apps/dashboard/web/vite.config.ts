// How the dashboard's page is built: one directory of static files, dist/web, that the dashboard's server hands out.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defaultClientConditions, defineConfig } from 'vite';

export default defineConfig({
  root: import.meta.dirname,
  plugins: [svelte()],
  resolve: { conditions: ['source', ...defaultClientConditions] },
  build: { outDir: '../../../dist/web', emptyOutDir: true, target: 'es2022', modulePreload: false },
});
