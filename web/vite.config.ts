// One script and one style sheet, with the digest of the sources in their first line: a test compares it.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

const SOURCES = ["package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"];

function digest(): string {
  const hash = createHash("sha256");
  const files = [...SOURCES, ...readdirSync("src").sort().map((name) => `src/${name}`)];
  for (const file of files) hash.update(`${file}\n`).update(readFileSync(file));
  return hash.digest("hex");
}

function stamped(): Plugin {
  return {
    name: "stamped",
    enforce: "post",
    generateBundle(_, bundle) {
      const line = `/*! hepkan explorer, made by "make web" from web/, sources ${digest()} */\n`;
      for (const file of Object.values(bundle)) {
        if (file.type === "chunk") file.code = line + file.code;
        else file.source = line + String(file.source);
      }
    },
  };
}

export default defineConfig({
  plugins: [stamped()],
  build: {
    outDir: "../src/hepkan/report/assets",
    emptyOutDir: false,
    target: "es2022",
    cssCodeSplit: false,
    modulePreload: false,
    lib: { entry: "src/main.ts", formats: ["iife"], name: "hepkanExplorer", fileName: () => "explorer.js", cssFileName: "explorer" },
  },
});
