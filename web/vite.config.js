import { defineConfig } from 'vite';

/** Puts the one script and the one style sheet into the page, so that it loads nothing. */
function oneFile() {
  return {
    name: 'one-file',
    enforce: 'post',
    generateBundle(_, bundle) {
      const page = bundle['index.html'];
      const take = (suffix) => {
        const names = Object.keys(bundle).filter((name) => name.endsWith(suffix));
        if (names.length !== 1) throw new Error(`expected one ${suffix} file, found ${names.length}`);
        const { code, source } = bundle[names[0]];
        delete bundle[names[0]];
        return (code ?? source).trim();
      };
      const script = take('.js').replaceAll('</script', '<\\/script');
      const style = take('.css');
      page.source = page.source
        .replace(/\s*<script type="module"[^>]*><\/script>/, '')
        .replace(/\s*<link rel="stylesheet"[^>]*>/, () => `\n    <style>${style}</style>`)
        .replace('</body>', () => `  <script type="module">${script}</script>\n  </body>`);
    },
  };
}

export default defineConfig({
  plugins: [oneFile()],
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  build: { target: 'es2022', modulePreload: false, cssCodeSplit: false },
  // `npm run dev` beside a running `nibble serve`
  server: { proxy: { '/v1': 'http://127.0.0.1:8080', '/nibble': 'http://127.0.0.1:8080' } },
});
