import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// The service serves the built page at "/" under a policy that allows its own origin alone:
// nothing is inlined, and every asset has a file of its own.
export default defineConfig({
  plugins: [svelte()],
  base: "./",
  server: { proxy: { "/v1": "http://127.0.0.1:8000" } }, // of 'chiasm serve', for 'npm run dev'
  build: {
    outDir: "../src/chiasm/service/page",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    target: ["chrome123", "firefox120", "safari17.5"],
    chunkSizeWarningLimit: 800,
    // MIT and ISC ask for their notices in copies.
    license: { fileName: "licences.md" },
  },
});
