// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reference pages without a change to the memory management: a device whose
 * fault handlers give the same page for every offset of a private mapping.
 */
#include <linux/cacheflush.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "refpage_dev.h"

#ifdef REFPAGE_HAS_PFN_T
#include <linux/pfn_t.h>
#else
/* vmf_insert_mixed() takes a plain frame number since the type is gone. */
#define page_to_pfn_t(page) page_to_pfn(page)
#endif

#ifndef CONFIG_ARCH_HAS_PTE_SPECIAL
#error "without special PTEs vmf_insert_mixed() counts every one of them"
#endif

/* What an open file holds. After the first mmap only readers are left. */
struct refpage {
	struct mutex lock; /* the content, the handler and the seal */
	struct page *page;
	u32 handler;
	bool sealed;
};

static vm_fault_t refpage_fault_naive(struct vm_fault *vmf)
{
	struct refpage *ref = vmf->vma->vm_private_data;

	/* A PTE keeps this reference until it is unmapped, and a mapcount. */
	get_page(ref->page);
	vmf->page = ref->page;
	return 0;
}

static vm_fault_t refpage_fault_safe(struct vm_fault *vmf)
{
	struct refpage *ref = vmf->vma->vm_private_data;

	/*
	 * A first store copies the page and drops the reference at once: there
	 * are as many as threads in a fault, however many pages are mapped.
	 */
	if (vmf->flags & FAULT_FLAG_WRITE)
		return refpage_fault_naive(vmf);

	return vmf_insert_mixed(vmf->vma, vmf->address,
				page_to_pfn_t(ref->page));
}

static const struct vm_operations_struct refpage_naive_vm_ops = {
	.fault = refpage_fault_naive,
};

static const struct vm_operations_struct refpage_safe_vm_ops = {
	.fault = refpage_fault_safe,
};

static int refpage_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct refpage *ref = file->private_data;

	if (vma->vm_flags & VM_MAYSHARE)
		return -EINVAL;

	mutex_lock(&ref->lock);
	ref->sealed = true;
	mutex_unlock(&ref->lock);

	vma->vm_private_data = ref;
	if (ref->handler == REFPAGE_DEV_NAIVE) {
		vma->vm_ops = &refpage_naive_vm_ops;
		return 0;
	}
	/* Makes vm_normal_page() find no page behind a special PTE. */
	vm_flags_set(vma, VM_MIXEDMAP);
	vma->vm_ops = &refpage_safe_vm_ops;
	return 0;
}

static ssize_t refpage_write(struct file *file, const char __user *from,
			     size_t count, loff_t *pos)
{
	struct refpage *ref = file->private_data;
	ssize_t ret;
	void *content;

	if (*pos < 0)
		return -EINVAL;
	if (!count)
		return 0;
	if (*pos >= PAGE_SIZE)
		return -ENOSPC;
	count = min_t(size_t, count, PAGE_SIZE - *pos);

	/* mmap takes the lock under mmap_lock, which a copy may need too. */
	content = memdup_user(from, count);
	if (IS_ERR(content))
		return PTR_ERR(content);

	mutex_lock(&ref->lock);
	if (ref->sealed) {
		ret = -EPERM;
	} else {
		memcpy_to_page(ref->page, *pos, content, count);
		*pos += count;
		ret = count;
	}
	mutex_unlock(&ref->lock);
	kfree(content);
	return ret;
}

static long refpage_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	struct refpage *ref = file->private_data;
	long ret = 0;
	u32 handler;

	if (cmd != REFPAGE_DEV_SET_HANDLER)
		return -ENOTTY;
	if (get_user(handler, (u32 __user *)arg))
		return -EFAULT;
	if (handler != REFPAGE_DEV_NAIVE && handler != REFPAGE_DEV_SAFE)
		return -EINVAL;

	mutex_lock(&ref->lock);
	if (ref->sealed)
		ret = -EPERM;
	else
		ref->handler = handler;
	mutex_unlock(&ref->lock);
	return ret;
}

static int refpage_open(struct inode *inode, struct file *file)
{
	struct refpage *ref = kzalloc(sizeof(*ref), GFP_KERNEL_ACCOUNT);

	if (!ref)
		return -ENOMEM;
	/* Charged, or descriptors could pin memory past a group's limit. */
	ref->page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!ref->page) {
		kfree(ref);
		return -ENOMEM;
	}
	mutex_init(&ref->lock);
	ref->handler = REFPAGE_DEV_SAFE;
	file->private_data = ref;
	return 0;
}

static int refpage_release(struct inode *inode, struct file *file)
{
	struct refpage *ref = file->private_data;

	/* Mappings hold the file, so no special PTE is left. */
	put_page(ref->page);
	kfree(ref);
	return 0;
}

static const struct file_operations refpage_fops = {
	.owner = THIS_MODULE,
	.open = refpage_open,
	.release = refpage_release,
	.write = refpage_write,
	.unlocked_ioctl = refpage_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = refpage_mmap,
};

static struct miscdevice refpage_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "refpage",
	.fops = &refpage_fops,
	.mode = 0666,
};

module_misc_device(refpage_device);

MODULE_DESCRIPTION("Private mappings whose pages all start as one page");
MODULE_LICENSE("GPL");
