import { vitePreprocess } from "@sveltejs/vite-plugin-svelte";

export default {
  preprocess: vitePreprocess(),
  compilerOptions: {
    // The history's roles are only redundant while a table is displayed as a table.
    warningFilter: (warning) => warning.code !== "a11y_no_redundant_roles",
  },
};
