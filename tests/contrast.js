(least) => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  canvas.canvas.width = canvas.canvas.height = 1;
  const rgba = (text) => { canvas.clearRect(0,0,1,1); canvas.fillStyle = text; canvas.fillRect(0,0,1,1);
    const d = canvas.getImageData(0,0,1,1).data; return [d[0],d[1],d[2],d[3]/255]; };
  const over = (a,b) => [0,1,2].map(i => a[i]*a[3] + b[i]*(1-a[3])).concat(1);
  const lum = (c) => { const [r,g,b] = c.slice(0,3).map(v => { v/=255; return v<=0.04045? v/12.92 : ((v+0.055)/1.055)**2.4; }); return .2126*r+.7152*g+.0722*b; };
  const out = {};
  document.querySelectorAll("body *").forEach(e => {
    if (![...e.childNodes].some(n => n.nodeType===3 && n.data.trim()) || e.closest("script,style,title,desc")) return;
    if (e.disabled || !e.checkVisibility()) return;
    const chain=[]; for (let p=e;p;p=p.parentElement) chain.unshift(p);
    let back=[255,255,255,1];
    chain.forEach(p => { if (!(p instanceof SVGElement)) back = over(rgba(getComputedStyle(p).backgroundColor), back); });
    const style=getComputedStyle(e), text = over(rgba(e instanceof SVGElement ? style.fill : style.color), back);
    const [x,y]=[lum(text),lum(back)].sort((a,b)=>b-a); const ratio=(x+.05)/(y+.05);
    if (ratio < least) { const key=e.tagName+"."+(e.className.baseVal??e.className)+" in "+e.parentElement.tagName+"."+(e.parentElement.className.baseVal ?? e.parentElement.className); out[key]=Math.min(out[key]??99, Math.round(ratio*100)/100); }
  });
  return out;
}
