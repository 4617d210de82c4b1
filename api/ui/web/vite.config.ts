import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// `npm run dev` serves the sources with reload and passes the API on to a running node.
const node = process.env.NIGHTJAR_API ?? "http://127.0.0.1:18083";

export default defineConfig({
  // Relative: the dashboard may stand under a path of a proxy.
  base: "./",
  plugins: [svelte()],
  build: {
    target: "es2022",
    // Data URLs would need room in the policy; small files are files too.
    assetsInlineLimit: 0,
    // The polyfill of module preload is an inline script in some setups, and every browser of the target knows it.
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600,
    // What the libraries in the bundle ask for in return.
    license: { fileName: "licenses.txt" },
  },
  server: {
    proxy: {
      "/api": { target: node, ws: true, changeOrigin: true },
    },
  },
});
